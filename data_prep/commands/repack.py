"""`repack FOLDER OUTPUT packing.sequence_length=N ...`: the same tokens in other samples.

Reads shards, not text, and needs neither recipe nor sources. What is not given about packing stays
as it was.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pydantic import ValidationError

from data_prep import card, executor, packing, repack
from data_prep.commands import build
from runtime import recipe
from runtime.config import Launch
from runtime.errors import RecipeError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a corpus (`output/data`)")
    parser.add_argument("output", type=Path, help="the data folder to make")
    parser.add_argument(
        "overrides", nargs="+", metavar="packing.key=value", help="what becomes otherwise"
    )


def run(found: Namespace) -> None:
    table = changed(repack.packing_of(found.folder), found.overrides)
    manifest = repack.repack(found.folder, found.output, table, executor.num_workers(Launch()))
    if (found.folder / card.CARD).is_file() and not (found.output / card.CARD).is_file():
        card.write(found.output, card.repacked(card.load(found.folder), manifest))
    build.show(manifest)
    print(f"corpus: {found.output}  card: {found.output / 'card.html'}")


def changed(table: packing.Packing, overrides: list[str]) -> packing.Packing:
    """The table with the given keys. Raises RecipeError for others and for what cannot work."""
    data = {"packing": table.model_dump(mode="json")}
    assigned = recipe.apply_overrides(data, overrides)
    others = [text for path, text in assigned.items() if path[0] != "packing" or len(path) != 2]
    if others:
        raise RecipeError(
            f"repack changes keys of [packing] only, for example packing.sequence_length=1024; "
            f"given: {' '.join(others)}"
        )
    try:
        return packing.Packing.model_validate(data["packing"])
    except ValidationError as error:
        problems = recipe.problems_of(error, packing.Packing, ("packing",))
        raise RecipeError("; ".join(
            f"{'.'.join(map(str, problem.path))}: {problem.message}" for problem in problems
        )) from None  # fmt: skip
