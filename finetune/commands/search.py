"""`search RECIPE [key.path=value ...] [--hostfile FILE] [--dry-run]`: try what [search] names.

The same command starts a search, continues one that was interrupted, or joins one that runs on
another machine with the same folders. Under SLURM it runs inside an allocation.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from runtime import command
from runtime.errors import RecipeError
from runtime.stages import Plan


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)
    parser.add_argument(
        "--hostfile", type=Path, help="divide the slots of these hosts (see hostfile.example)"
    )


def run(found: Namespace) -> None:
    from finetune.config import Recipe
    from runtime import recipe

    checked = recipe.load(found.recipe, tuple(found.overrides), Recipe)
    try:
        from finetune.search import driver
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise RecipeError("a search needs optuna: pip install 'textmill[search]'") from None

    target, shares = driver.check(checked, found.hostfile)
    if found.dry_run:
        lines = driver.lines(checked, target, shares)
        folder = driver.folder_of(checked, target)
        command.print_plan(Plan(f"finetune.search.{target}", folder, "", lines))
        return
    command.start_logging()
    driver.run(checked, target, shares)
