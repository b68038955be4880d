"""`build RECIPE [key.path=value ...] [--dry-run]`: raw corpora to shards.

An interrupted build goes on where it was; one whose inputs have not changed is not done again.
"""

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from data_prep import build
from data_prep.commands import corpus, stats
from data_prep.config import Recipe
from data_prep.plan import plan
from runtime import command, recipe


def add_arguments(parser: ArgumentParser) -> None:
    command.add_arguments(parser)


def run(found: Namespace) -> None:
    checked = recipe.load(found.recipe, found.overrides, Recipe)
    planned = plan(checked)
    if found.dry_run or planned.is_done:
        command.print_plan(planned)
        if not found.dry_run:
            build.work_of(planned).remove_left()  # left if the last run was killed at its very end
        return
    show(build.build(checked, planned))
    print(f"corpus: {planned.folder}  card: {planned.folder / 'card.html'}")


def show(manifest: dict[str, Any]) -> None:
    """The final table, one row a source, and what did not go as it should."""
    length = manifest["sequence_length"]
    sources = {
        name: stats.source_facts(entry, length) for name, entry in manifest["sources"].items()
    }
    columns = stats.SOURCE_COLUMNS
    corpus.print_table("corpus", ("source", "domain"), columns, stats.source_rows(sources))
    for name, source in manifest["sources"].items():
        if source["batches_encoded_by_reference"]:
            print(
                f"warning: source {name}: the fast way to encode and tokenizer.json disagreed in "
                f"{source['batches_encoded_by_reference']} batches; tokenizer.json was used there",
                file=sys.stderr,
            )
