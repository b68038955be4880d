"""`repair FOLDER SOURCE/SHARD ...`: write damaged shards of a corpus anew.

The manifest holds the recipe's tables and, for each shard, which documents of which units of the
input are in it; `decisions/` holds which documents and lines of a unit were copies of others. So
only these units are read and encoded again, and no other source is looked at. The new files take
the place of the old ones only if they have the block hashes that the manifest promises; what else
is in the folder, the manifest included, stays as it is.

It refuses if an input file, or the way Textmill makes shards, is not what it was.
"""

import json
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep import build, executor, reading, selecting, sharding, units
from data_prep.build import DECISIONS, Build
from data_prep.commands import verify
from data_prep.config import Recipe
from data_prep.plan import plan
from data_prep.progress import Progress
from data_prep.sharding import ShardJob, Slice
from data_prep.shards import AGAIN, Split, TokenizerFacts, read_manifest, tokenizer_facts
from data_prep.units import Unit
from data_prep.work import Work
from runtime import provenance
from runtime.errors import DataError

TABLES_OF_MANIFEST = ("source_order", "seed")  # beside the tables of a recipe in its `config`


@dataclass(frozen=True)
class Wanted:
    """A shard to write anew."""

    source: str
    split: Split
    number: int  # within source and split
    entry: Mapping[str, Any]  # of the manifest

    @property
    def name(self) -> str:
        return f"{self.source}/{self.entry['name']}"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a corpus (`output/data`)")
    parser.add_argument("shards", nargs="+", metavar="SOURCE/SHARD", help="as `verify` names them")


def run(found: Namespace) -> None:
    folder: Path = found.folder
    manifest = read_manifest(folder)
    if "repacked_from" in manifest:
        raise DataError(verify.repack_again(folder, manifest))
    known = {wanted.name: wanted for wanted in all_shards(manifest)}
    unknown = [name for name in found.shards if name not in known]
    if unknown:
        raise DataError(
            f"{folder} has no shard {', '.join(unknown)}; shards are named like "
            f"{next(iter(known), 'SOURCE/train-00000')}"
        )
    repair(folder, manifest, [known[name] for name in dict.fromkeys(found.shards)])


def all_shards(manifest: Mapping[str, Any]) -> Iterator[Wanted]:
    for source, entry in manifest["sources"].items():
        for split, facts in entry["splits"].items():
            for number, shard in enumerate(facts["shards"]):
                yield Wanted(source, split, number, shard)


def repair(folder: Path, manifest: dict[str, Any], wanted: list[Wanted]) -> None:
    """Write the shards in a work folder of their own, compare, then replace. Raises DataError."""
    recipe = recipe_of(manifest, folder)
    planned = plan_of(recipe, manifest, folder)
    facts = tokenizer_facts(folder / "tokenizer", manifest["tokenizer"])
    work = Work(folder.with_name(f"{folder.name}.repair"))
    names = sorted(shard.name for shard in wanted)
    with (
        work.open(provenance.fingerprint([planned, names])),
        executor.opened(recipe.launch, work) as workers,
    ):
        found = units_of(recipe, wanted)
        restore_decisions(folder, work, found)
        progress = Progress(executor.num_workers(recipe.launch))
        write(Build(work, recipe, found, workers, progress), wanted, facts)
        for shard in wanted:
            check(work, shard)
        for shard in wanted:
            replace(work, folder, shard)
            print(f"repaired {shard.name}")
    work.remove()


def recipe_of(manifest: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe of a corpus as far as it shapes shards, from its manifest."""
    config = dict(manifest["config"])
    order = config["source_order"]
    tables = {key: value for key, value in config.items() if key not in TABLES_OF_MANIFEST}
    tables["sources"] = {name: config["sources"][name] for name in order}
    if config["seed"] is not None:
        tables["seed"] = config["seed"]
    return Recipe.model_validate_json(
        json.dumps({"name": "repair", "output": str(folder.parent), **tables})
    )


def plan_of(recipe: Recipe, manifest: Mapping[str, Any], folder: Path) -> str:
    """The fingerprint of the inputs. Raises DataError if it is not the one of the corpus."""
    try:
        inputs = plan(recipe).inputs
    except DataError as error:
        raise DataError(
            f"{error}; a shard is repaired from the inputs it came from, whose paths are as seen "
            f"from the folder in which the corpus was built{built_in(folder)}"
        ) from None
    if inputs != manifest["inputs"]:
        raise DataError(
            f"the inputs of {folder} are not what they were: a source file, the tokenizer or "
            f"Textmill itself has changed since; only the whole corpus can be built again: {AGAIN}"
        )
    return inputs


def built_in(folder: Path) -> str:
    record = folder / "run.json"
    return f" ({provenance.read_json(record).get('folder')})" if record.is_file() else ""


def units_of(recipe: Recipe, wanted: list[Wanted]) -> tuple[Unit, ...]:
    """The units that the documents of the shards came from, in order of priority."""
    numbers: dict[str, set[int]] = {}
    for shard in wanted:
        listed = numbers.setdefault(shard.source, set())
        listed.update(number for number, _, _ in shard.entry["units"])
    return tuple(
        unit
        for name, params in recipe.sources.items()
        if name in numbers
        for unit in units.units_of(name, params)
        if unit.number in numbers[name]
    )


def restore_decisions(folder: Path, work: Work, found: tuple[Unit, ...]) -> None:
    """Copy what was decided about the units' documents and lines to the work folder."""
    for unit in found:
        files = sorted((folder / DECISIONS / unit.source).glob(f"{unit.number:06d}.*"))
        if not files:
            raise DataError(
                f"{folder / DECISIONS / unit.name}.npy is missing, without which it is not known "
                f"which documents were copies; {AGAIN}"
            )
        for path in files:
            target = work.path(f"keep/{unit.name}", path.name.removeprefix(f"{unit.number:06d}"))
            shutil.copyfile(path, target)


def write(current: Build, wanted: list[Wanted], facts: TokenizerFacts) -> None:
    """The passes of a build, for these units and shards alone."""
    recipe, work = current.recipe, current.work
    ready = None if recipe.tokenizer.learns else facts  # as when the corpus was built
    jobs = build.read_jobs(work, recipe, current.units, ready)
    build.run_pass(current, "read", reading.read_unit, jobs, [unit.size for unit in current.units])
    build.encode_all(current, facts)
    selecting.select(work, current.units, recipe.packing)
    shard_jobs = [
        ShardJob(work, shard.source, shard.split, shard.number, slices_of(shard), facts,
                 recipe.packing)
        for shard in wanted
    ]  # fmt: skip
    tokens = [shard.entry["num_tokens"] for shard in wanted]
    build.run_pass(current, "shard", sharding.write, shard_jobs, tokens)


def slices_of(shard: Wanted) -> tuple[Slice, ...]:
    return tuple(
        Slice(f"{shard.source}/{number:06d}", number, first, end)
        for number, first, end in shard.entry["units"]
    )


def check(work: Work, shard: Wanted) -> None:
    """Raise DataError if a new shard is not, byte for byte, what the manifest says."""
    written = work.journal(f"shard/{shard.name}")
    assert written is not None
    if written["files"] != shard.entry["files"]:
        raise DataError(
            f"{shard.name} came out otherwise than when the corpus was built: an input has changed "
            "though its size and time have not, or a library has another version. Nothing was "
            f"replaced. Only the whole corpus can be built again: {AGAIN}"
        )


def replace(work: Work, folder: Path, shard: Wanted) -> None:
    """Give the new files the names of the old ones."""
    target = folder / "sources" / shard.source
    target.mkdir(parents=True, exist_ok=True)
    made = work.folder / "corpus" / "sources" / shard.source
    for kind in shard.entry["files"]:
        name = f"{shard.entry['name']}.{kind}.npy"
        (made / name).replace(target / name)
    provenance.fsync_folder(target)
