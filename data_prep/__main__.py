"""`python -m data_prep RECIPE [key.path=value ...] [--dry-run]`: raw corpora to shards."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from data_prep.build import build, work_of
from data_prep.config import Recipe
from data_prep.plan import plan
from runtime import command, recipe
from runtime.errors import run_command

TABLE_WIDTH = 120  # where there is no terminal to measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(lambda: prepare(arguments))


def prepare(arguments: Sequence[str] | None) -> None:
    told = command.parse("python -m data_prep", "Raw corpora to shards.", arguments)
    checked = recipe.load(told.recipe, told.overrides, Recipe)
    planned = plan(checked)
    if told.dry_run or planned.is_done:
        command.print_plan(planned)
        if not told.dry_run:
            work_of(planned).remove()  # left if the last run was killed at its very end
        return
    manifest = build(checked, planned)
    show(manifest)
    print(f"corpus: {planned.folder}  card: {planned.folder / 'card.html'}")


def show(manifest: dict[str, Any]) -> None:
    """The final table: one row a source."""
    table = Table("source", "domain", title="corpus")
    columns = ("read", "quarantined", "dropped", "kept", "tokens", "samples", "cut", "padding")
    for column in columns:
        table.add_column(column, justify="right")
    length = manifest["sequence_length"]
    for name, source in manifest["sources"].items():
        documents, splits = source["documents"], source["splits"].values()
        samples = sum(split["num_samples"] for split in splits)
        padding = sum(split["padding_tokens"] for split in splits)
        figures = (
            documents["read"],
            sum(documents["quarantined"].values()),
            sum(documents["dropped"].values()),
            documents["kept"],
            sum(split["num_tokens"] for split in splits),
            samples,
            sum(split["documents_cut"] for split in splits),
        )
        share = f"{padding / (samples * length):.3%}" if samples else "-"
        table.add_row(name, source["domain"], *(f"{figure:,}" for figure in figures), share)
    Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table)
    for name, source in manifest["sources"].items():
        if source["batches_encoded_by_reference"]:
            print(
                f"warning: source {name}: SentencePiece and tokenizer.json disagreed in "
                f"{source['batches_encoded_by_reference']} batches; tokenizer.json was used there",
                file=sys.stderr,
            )


if __name__ == "__main__":
    sys.exit(main())
