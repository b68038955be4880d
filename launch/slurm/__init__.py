"""Stages as SLURM jobs: the batch files, their submission, the states of the jobs."""
