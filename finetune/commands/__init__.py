"""The commands of `python -m finetune`, one file each: `add_arguments(parser)` and `run(found)`."""
