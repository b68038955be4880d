"""`train-tokenizer RECIPE [key.path=value ...]`: read the sources and train the tokenizer, no more.

The documents read and the tokenizer stay in the work folder: a build of the same recipe goes on
from there.
"""

from argparse import ArgumentParser, Namespace

from data_prep import build
from data_prep.config import Recipe
from data_prep.plan import plan
from runtime import command, recipe


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)


def run(found: Namespace) -> None:
    checked = recipe.load(found.recipe, found.overrides, Recipe)
    planned = plan(checked)
    if found.dry_run:
        command.print_plan(planned)
    elif planned.is_done:
        print(f"tokenizer: {planned.folder / 'tokenizer'} (of the finished corpus)")
    else:
        print(f"tokenizer: {build.train_tokenizer(checked, planned)}")
