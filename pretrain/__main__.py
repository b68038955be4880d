"""Shards to encoder.

    python -m pretrain RECIPE [key.path=value ...] [--dry-run] [--accept-drift]    start or resume
    python -m pretrain inspect-step RUN STEP                show the texts of any step's batch

The same arguments work under `deepspeed --no_local_rank --module pretrain`.
"""

import sys
from argparse import ArgumentParser

from runtime import command, signals
from runtime.errors import RecipeError, run_command


def pretrain() -> None:
    arguments = command.parse("python -m pretrain", "Pretrain an encoder on prepared shards.")
    from pretrain.config import Recipe
    from pretrain.plan import plan
    from runtime import recipe

    checked = recipe.load(arguments.recipe, arguments.overrides, Recipe)
    planned = plan(checked)
    if arguments.dry_run or planned.is_done:
        command.print_plan(planned)
        return
    if planned.pending or checked.model is None or checked.train is None:
        raise RecipeError(f"pretraining cannot start: {planned.pending}")
    import transformers

    from pretrain.run import run
    from runtime import processes

    command.start_logging()
    transformers.utils.logging.disable_progress_bar()
    with processes.joined(checked, "pretrain"):
        run(checked, checked.model, checked.train, planned, arguments.accept_drift)


def show_step() -> None:
    from pretrain import inspect_step

    parser = ArgumentParser(
        prog="python -m pretrain inspect-step", description="Show the texts of a step's batch."
    )
    inspect_step.add_arguments(parser)
    inspect_step.inspect(parser.parse_args(sys.argv[2:]))


def main() -> int:
    if sys.argv[1:2] == ["inspect-step"]:
        return run_command(show_step)
    # Before torch is imported: a signal that arrives during the import must not end the process.
    signals.install()
    return run_command(pretrain)


if __name__ == "__main__":
    command.leave(main)
