"""`train RECIPE [key.path=value ...] [--dry-run]`: fine-tune what is not done."""

from argparse import ArgumentParser, Namespace

from runtime import command
from runtime.errors import DataError, RecipeError


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)
    command.add_drift_argument(parser)


def run(found: Namespace) -> None:
    from finetune.config import Recipe
    from finetune.plan import plan
    from runtime import recipe

    checked = recipe.load(found.recipe, tuple(found.overrides), Recipe)
    planned = plan(checked)
    if found.dry_run or planned.is_done:
        command.print_plan(planned)
        return
    if planned.pending:
        fault = DataError if checked.tasks else RecipeError
        raise fault(f"fine-tuning cannot start: {planned.pending}")
    from finetune.train import run as train
    from runtime import processes

    quiet()
    with processes.joined(checked, "finetune"):
        train(checked, planned, found.accept_drift)


def quiet() -> None:
    """Log our own lines; what transformers says about new heads is checked in finetune/heads.py."""
    import transformers

    command.start_logging()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
