"""`augment`: STUB."""

from argparse import ArgumentParser, Namespace

from runtime.errors import RecipeError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe")


def run(found: Namespace) -> None:
    raise RecipeError("STUB")
