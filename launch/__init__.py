"""Start the stages as processes, locally, over a hostfile or under SLURM. Imports runtime only."""
