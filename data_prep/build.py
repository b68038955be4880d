"""Build a corpus: the passes over the input in order, then the manifest, then the folder's name.

    read     each unit: read, clean, check, store with the prints for finding copies   (workers)
    merge    which copies of documents and lines stay                                  (here)
    train    the tokenizer                                                             (here)
    encode   each unit: token ids                                                      (workers)
    select   which documents are in the corpus and in which split                      (here)
    shard    each group of documents: pack, write                                      (workers)
    publish  card, manifest; the work folder's `corpus` becomes output/data

With an existing tokenizer, and if no lines go, `read` encodes too. Every unit is
journaled in output/data.work, so an interrupted run goes on where it was. Nothing has its final
name before all of it is there. The finished folder depends on the recipe and the input alone; when,
where and how fast it was made stands in run.json beside the manifest.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_prep import (
    card,
    decontamination,
    encoding,
    executor,
    merge,
    reading,
    sampling,
    selecting,
    sharding,
    tokenizer,
    units,
)
from data_prep.config import Recipe
from data_prep.encoding import EncodeJob
from data_prep.executor import Job, Run
from data_prep.manifest import Passes, manifest_of
from data_prep.progress import Progress
from data_prep.reading import ReadJob
from data_prep.shards import TokenizerFacts
from data_prep.units import Unit
from data_prep.work import Work
from runtime import provenance, run_lock
from runtime.errors import DataError
from runtime.stages import MANIFEST, Plan

J = TypeVar("J", bound=Job)
Journals = dict[str, list[dict[str, Any]]]
DECISIONS = "decisions"  # in a corpus: which documents and lines of each unit stayed


@dataclass(frozen=True)
class Build:
    """A build under way."""

    work: Work
    recipe: Recipe
    units: tuple[Unit, ...]  # of all sources, in order of priority
    run: Run
    progress: Progress

    def of(self, source: str) -> list[Unit]:
        return [unit for unit in self.units if unit.source == source]


def build(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """Build the corpus of a recipe in `plan.folder` and return its manifest."""
    started = time.time()
    check(recipe)
    work = work_of(plan)
    lock = run_lock.owned(run_lock.path_of(recipe.output, plan.stage), plan.stage)
    with lock, work.open(plan.inputs):
        facts = ready_tokenizer(work, recipe)
        if facts is not None and recipe.launch.executor == "local":
            encoding.encoder_of(facts)  # forked workers have it from the start
        with opened(recipe, work) as current:
            encoding.release()
            read = read_all(current, facts)
            merged = merge_copies(current)
            facts = facts or trained_tokenizer(current)
            encoded = encode_all(current, facts)
            selected = selecting.select(work, current.units, recipe.packing)
            passes = Passes(read, merged, encoded, selected, shard_all(current, facts))
        manifest = manifest_of(recipe, plan, facts, passes)
        found = {name: current.of(name) for name in recipe.sources}
        publish(work, plan.folder, manifest, card.gather(work, found, manifest, facts), started)
    return manifest


def train_tokenizer(recipe: Recipe, plan: Plan) -> Path:
    """Read the corpus as far as its tokenizer needs; return the tokenizer's folder, which is
    `output/tokenizer`. A build of the same recipe goes on from the work done for it."""
    check(recipe)
    work = work_of(plan)
    lock = run_lock.owned(run_lock.path_of(recipe.output, plan.stage), plan.stage)
    with lock, work.open(plan.inputs), opened(recipe, work) as current:
        if ready_tokenizer(work, recipe) is None:
            read_all(current, None)
            merge_copies(current)
            trained_tokenizer(current)
        folder = recipe.output / "tokenizer"
        unfinished = folder.with_name(f".{folder.name}.tmp")
        for old in (unfinished, folder):
            if old.exists():
                shutil.rmtree(old)
        shutil.copytree(tokenizer_folder(work), unfinished)
        unfinished.replace(folder)
    return folder


def check(recipe: Recipe) -> None:
    """Raise DataError for what no build can come of."""
    if not recipe.sources:
        raise DataError("the recipe has no [sources.NAME] table: nothing to prepare")
    decontamination.decontaminator(recipe.decontaminate)  # raises if a set cannot be read


def work_of(plan: Plan) -> Work:
    return Work(plan.folder.with_name(f"{plan.folder.name}.work"))


@contextmanager
def opened(recipe: Recipe, work: Work) -> Iterator[Build]:
    """The units of a recipe and the workers, for whoever holds the lock of the work folder. Raises
    DataError for a source that cannot be read as the recipe says."""
    with executor.opened(recipe.launch, work) as run:
        found: list[Unit] = []
        for name, params in recipe.sources.items():
            listed = units.units_of(name, params)
            units.probe(listed, name, params)
            found += listed
        progress = Progress(executor.num_workers(recipe.launch))
        yield Build(work, recipe, tuple(found), run, progress)


def tokenizer_folder(work: Work) -> Path:
    return work.folder / "corpus" / "tokenizer"


def ready_tokenizer(work: Work, recipe: Recipe) -> TokenizerFacts | None:
    """The existing tokenizer of the recipe, copied; None if one is to be trained or extended."""
    if recipe.tokenizer.learns:
        return None
    return prepare_tokenizer(work, recipe, list)


def trained_tokenizer(current: Build) -> TokenizerFacts:
    """Train or extend the tokenizer on a sample of the kept text."""
    table = current.recipe.tokenizer
    found = {name: current.of(name) for name in current.recipe.sources}
    valid_share = current.recipe.packing.valid_share
    with current.progress.note("tokenizer"):
        return prepare_tokenizer(
            current.work,
            current.recipe,
            lambda: sampling.sample(
                current.work, found, table.source_weights, table.sample_bytes, valid_share
            ),
        )


def prepare_tokenizer(
    work: Work, recipe: Recipe, sample: Callable[[], Iterable[str]]
) -> TokenizerFacts:
    folder = tokenizer_folder(work)
    folder.parent.mkdir(exist_ok=True)
    tokenizer.prepare(folder, recipe.tokenizer, sample)
    return tokenizer.facts(folder)


def read_jobs(
    work: Work, recipe: Recipe, found: Iterable[Unit], facts: TokenizerFacts | None
) -> list[ReadJob]:
    """The first pass; it encodes as well if there is a tokenizer and texts stay as they are."""
    at_once = None if recipe.dedup.lines else facts
    return [
        ReadJob(
            work,
            unit,
            recipe.sources[unit.source],
            recipe.clean,
            recipe.dedup,
            recipe.decontaminate,
            recipe.augment,
            recipe.seed,
            at_once,
        )
        for unit in found
    ]


def read_all(current: Build, facts: TokenizerFacts | None) -> dict[str, Any]:
    """Read all units; per source the merged journals. Raises DataError for too much damage."""
    jobs = read_jobs(current.work, current.recipe, current.units, facts)
    sizes = [job.unit.size for job in jobs]
    journals = run_pass(current, "read", reading.read_unit, jobs, sizes)
    grouped = by_source((job.unit.source for job in jobs), journals)
    totals = {name: reading.merged(grouped.get(name, [])) for name in current.recipe.sources}
    for name, params in current.recipe.sources.items():
        reading.check_damage(name, params, totals[name])
    return totals


def merge_copies(current: Build) -> dict[str, Any]:
    """Decide which copies of documents and of lines go."""
    done = current.work.journal("merge")
    if done is None:
        places = {name: number for number, name in enumerate(current.recipe.sources)}
        with current.progress.note("merge"):
            found = merge.merge(current.work, current.units, places, current.recipe.dedup)
        done = current.work.finish("merge", found)
    return done


def encode_all(current: Build, facts: TokenizerFacts) -> Journals:
    """Encode all units that are not yet."""
    jobs = [EncodeJob(current.work, unit, facts) for unit in current.units]
    sizes = [read_size(current.work, unit) for unit in current.units]
    journals = run_pass(current, "encode", encoding.encode_unit, jobs, sizes)
    return by_source((job.unit.source for job in jobs), journals)


def read_size(work: Work, unit: Unit) -> int:
    journal = work.journal(f"read/{unit.name}")
    assert journal is not None
    return int(journal["bytes"])


def shard_all(current: Build, facts: TokenizerFacts) -> Journals:
    """Write all shards; their entries by source/split."""
    packing = current.recipe.packing
    jobs = [
        job
        for name in current.recipe.sources
        for job in sharding.jobs_of(current.work, name, current.of(name), facts, packing)
    ]
    tokens = [packing.shard_tokens] * len(jobs)
    written = run_pass(current, "shard", sharding.write, jobs, tokens, " tokens")
    return by_source((f"{job.source}/{job.split}" for job in jobs), written)


def run_pass(
    current: Build,
    title: str,
    function: Callable[[J], dict[str, Any]],
    jobs: Sequence[J],
    sizes: Sequence[int],
    size_unit: str = "B",
) -> list[dict[str, Any]]:
    """Run the jobs that have no journal yet; return all journals in the order of the jobs."""
    journals = [current.work.journal(job.name) for job in jobs]
    todo = [number for number, journal in enumerate(journals) if journal is None]
    if todo:
        with current.progress.track(title, sizes, todo, size_unit=size_unit) as advance:
            names = [jobs[number].name for number in todo]
            for place, journal in current.run(function, [jobs[n] for n in todo], names):
                journals[todo[place]] = journal
                advance(todo[place])
    return [journal for journal in journals if journal is not None]


def by_source(names: Iterable[str], journals: list[dict[str, Any]]) -> Journals:
    grouped: Journals = {}
    for name, journal in zip(names, journals, strict=True):
        grouped.setdefault(name, []).append(journal)
    return grouped


def publish(
    work: Work, folder: Path, manifest: Mapping[str, Any], facts: card.Card, started: float
) -> None:
    """Write card and manifest, and give the corpus its name in one rename."""
    corpus = work.folder / "corpus"
    if (work.folder / "keep").exists():
        (work.folder / "keep").rename(corpus / DECISIONS)
    remove_temporary(corpus)
    card.write(corpus, facts)
    run = provenance.run_record() | {"seconds": round(time.time() - started, 1)}
    provenance.write_json(corpus / "run.json", run)
    provenance.write_json(corpus / MANIFEST, manifest)
    if folder.exists():
        (folder / MANIFEST).unlink(missing_ok=True)  # from here on the old one is not finished
        shutil.rmtree(folder)
    work.forget()  # its journals tell of shards that are about to leave
    corpus.replace(folder)
    provenance.fsync_folder(folder.parent)
    work.remove()


def remove_temporary(folder: Path) -> None:
    """Remove the half-written files of workers that were killed."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
