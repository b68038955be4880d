"""The commands of `python -m data_prep`, a file each: `add_arguments(parser)`, `run(found)`."""
