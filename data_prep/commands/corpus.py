"""Which corpus a command is about, and how commands print tables."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data_prep.config import Recipe
from runtime import recipe, stages
from runtime.errors import RecipeError

TABLE_WIDTH = 120  # where there is no terminal to measure


def add_arguments(parser: ArgumentParser) -> None:
    """FOLDER, or the recipe that made it with its overrides."""
    parser.add_argument(
        "corpus",
        metavar="FOLDER|RECIPE",
        type=Path,
        help="a corpus (`output/data`), or the recipe that made it",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="what was given with the RECIPE"
    )


def folder_of(found: Namespace) -> Path:
    """The folder of the corpus. Raises RecipeError."""
    place: Path = found.corpus
    if not place.is_dir():
        return stages.folder(recipe.load(place, found.overrides, Recipe).output, "data_prep")
    if found.overrides:
        raise RecipeError(
            f"{place} is a corpus, and {' '.join(found.overrides)!r} can change nothing in it; "
            "give its recipe to choose a corpus by overrides"
        )
    return place


def console() -> Console:
    """Standard output: as wide as the terminal, or of a fixed width."""
    return Console(width=None if sys.stdout.isatty() else TABLE_WIDTH, highlight=False)


def print_table(
    title: str, texts: Sequence[str], figures: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Print columns of text, then columns of figures; nothing if there is no row."""
    listed = list(rows)
    if not listed:
        return
    table = Table(title=title, title_justify="left")
    for column in texts:
        table.add_column(column, overflow="fold")
    for column in figures:
        table.add_column(column, justify="right", overflow="fold")
    for row in listed:
        table.add_row(*row)
    console().print(table, markup=False)
