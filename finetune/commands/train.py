"""`train RECIPE [key.path=value ...] [--only NAME] [--dry-run]`: fine-tune what is not done."""

from argparse import ArgumentParser, Namespace

from runtime import command
from runtime.errors import DataError, RecipeError


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)
    command.add_drift_argument(parser)
    parser.add_argument(
        "--only", metavar="NAME", help="one task or multi-task model, beside others that run"
    )


def run(found: Namespace) -> None:
    from finetune.config import Recipe
    from finetune.plan import STAGE, lock_of, plan, plan_of
    from runtime import recipe

    checked = recipe.load(found.recipe, tuple(found.overrides), Recipe)
    planned = plan(checked) if found.only is None else plan_of(checked, found.only)
    if found.dry_run or planned.is_done:
        command.print_plan(planned)
        return
    if planned.pending:
        fault = DataError if checked.tasks else RecipeError
        raise fault(f"fine-tuning cannot start: {planned.pending}")
    from finetune.train import run as train
    from runtime import processes

    quiet()
    names = [lock_of(part.folder.name) for part in planned.parts if not part.is_done]
    stage, *parts = names if found.only is not None else [STAGE, *names]
    with processes.joined(checked, stage, parts):
        train(checked, planned, found.accept_drift)


def quiet() -> None:
    """Log our own lines; what transformers says about new heads is checked in finetune/heads.py."""
    import transformers

    command.start_logging()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
