"""Build a corpus: the passes over the input in order, then the manifest, then the folder's name.

    read     each unit: read, clean, hash                                   (workers)
    merge    which copy of equal texts stays                                (main process)
    train    the tokenizer                                                  (main process)
    encode   each unit: token ids                                           (workers)
    shard    each group of documents: pack, write                           (workers)
    publish  card, manifest; the work folder's `corpus` becomes output/data

Every unit is journaled in output/data.work, so an interrupted run goes on where it was. Nothing has
its final name before all of it is there. The finished folder depends on the recipe and the input
alone; when, where and how fast it was made stands in run.json beside the manifest.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from data_prep import card, dedup, encoding, pool, reading, sampling, sharding, tokenizer, units
from data_prep.config import Recipe
from data_prep.manifest import manifest_of
from data_prep.progress import Progress
from data_prep.units import Unit
from data_prep.work import Work, save_array
from runtime import provenance
from runtime.errors import DataError
from runtime.stages import MANIFEST, Plan


class Job(Protocol):
    """One unit of a pass."""

    @property
    def name(self) -> str: ...


J = TypeVar("J", bound=Job)
Units = dict[str, list[Unit]]
Journals = dict[str, list[dict[str, Any]]]


def work_of(plan: Plan) -> Work:
    return Work(plan.folder.with_name(f"{plan.folder.name}.work"))


def build(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """Build the corpus of a recipe in `plan.folder` and return its manifest."""
    if not recipe.sources:
        raise DataError("the recipe has no [sources.NAME] table: nothing to prepare")
    work = work_of(plan)
    with work.open(plan.inputs):
        return run_passes(work, recipe, plan)


def run_passes(work: Work, recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """All passes in order; what is already journaled is not done again."""
    started = time.time()
    progress = Progress(recipe.launch.workers or num_cores())
    found = {name: units.units_of(name, params) for name, params in recipe.sources.items()}
    for name, params in recipe.sources.items():
        units.probe(found[name], name, params)
    read = read_all(work, recipe, found, progress)
    copies = remove_copies(work, recipe, found)
    with progress.note("tokenizer"):
        prepare_tokenizer(work, recipe, found)
    facts = tokenizer.facts(work.folder / "corpus" / "tokenizer")
    jobs = [
        encoding.EncodeJob(
            work, unit, facts, recipe.packing.drop_shorter_than, recipe.packing.valid_share
        )
        for listed in found.values()
        for unit in listed
    ]
    sizes = [read_size(work, job.unit) for job in jobs]
    encoded = run_pass(work, "encode", encoding.encode_unit, jobs, sizes, progress)
    shard_jobs = [
        job
        for name, listed in found.items()
        for job in sharding.jobs_of(work, name, listed, facts, recipe.packing)
    ]
    tokens = [recipe.packing.shard_tokens] * len(shard_jobs)
    written = run_pass(work, "shard", sharding.write, shard_jobs, tokens, progress)
    manifest = manifest_of(
        recipe,
        plan,
        facts,
        read=read,
        copies=copies,
        encoded=by_source((job.unit.source for job in jobs), encoded),
        shards=by_source((f"{job.source}/{job.split}" for job in shard_jobs), written),
    )
    publish(work, plan.folder, manifest, card.gather(work, found, manifest, facts), started)
    return manifest


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_all(work: Work, recipe: Recipe, found: Units, progress: Progress) -> dict[str, Any]:
    """The first pass; per source the merged journals. Raises DataError for too much damage."""
    jobs = [
        reading.ReadJob(work, unit, recipe.sources[name], recipe.clean, recipe.dedup)
        for name, listed in found.items()
        for unit in listed
    ]
    sizes = [job.unit.size for job in jobs]
    journals = run_pass(work, "read", reading.read_unit, jobs, sizes, progress)
    grouped = by_source((job.unit.source for job in jobs), journals)
    totals = {name: reading.merged(grouped.get(name, [])) for name in found}
    for name, params in recipe.sources.items():
        reading.check_damage(name, params, totals[name])
    return totals


def run_pass(
    work: Work,
    title: str,
    function: Callable[[J], dict[str, Any]],
    jobs: Sequence[J],
    sizes: Sequence[int],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Run the jobs that have no journal yet; return all journals in the order of the jobs."""
    journals = [work.journal(job.name) for job in jobs]
    todo = [number for number, journal in enumerate(journals) if journal is None]
    with progress.track(title, sizes, todo) as advance:
        names = [jobs[number].name for number in todo]
        work_list = [jobs[number] for number in todo]
        for place, journal in pool.run(function, work_list, names, progress.num_workers):
            journals[todo[place]] = journal
            advance(todo[place])
    return [journal for journal in journals if journal is not None]


def by_source(names: Any, journals: list[dict[str, Any]]) -> Journals:
    grouped: Journals = {}
    for name, journal in zip(names, journals, strict=True):
        grouped.setdefault(name, []).append(journal)
    return grouped


def read_size(work: Work, unit: Unit) -> int:
    journal = work.journal(f"read/{unit.name}")
    assert journal is not None
    return int(journal["bytes"])


def remove_copies(work: Work, recipe: Recipe, found: Units) -> list[list[int]]:
    """Decide which documents stay; return the matrix source x source of copies."""
    done = work.journal("merge")
    if done is None:
        listed = [unit for units_of_source in found.values() for unit in units_of_source]
        hashes = [reading.unit_array(work, unit.name, "hashes") for unit in listed]
        places = {name: number for number, name in enumerate(found)}
        if recipe.dedup.exact:
            merged = dedup.first_copies(hashes, [places[u.source] for u in listed], len(found))
            keep, copies = merged.keep, merged.copies.tolist()
        else:
            keep = [np.ones(len(unit), bool) for unit in hashes]
            copies = np.zeros((len(found), len(found)), int).tolist()
        for unit, kept in zip(listed, keep, strict=True):
            save_array(work.path(f"keep/{unit.name}", ".npy"), kept)
        done = work.finish("merge", {"copies": copies})
    matrix: list[list[int]] = done["copies"]
    return matrix


def prepare_tokenizer(work: Work, recipe: Recipe, found: Units) -> None:
    """Train the tokenizer on a sample of the kept text, or copy the existing one."""
    folder = work.folder / "corpus" / "tokenizer"
    folder.parent.mkdir(exist_ok=True)
    table = recipe.tokenizer
    tokenizer.prepare(
        folder,
        table,
        lambda: sampling.sample(
            work, found, table.source_weights, table.sample_bytes, recipe.packing.valid_share
        ),
    )


def publish(
    work: Work, folder: Path, manifest: Mapping[str, Any], facts: card.Card, started: float
) -> None:
    """Write card and manifest, and give the corpus its name in one rename."""
    corpus = work.folder / "corpus"
    remove_temporary(corpus)
    card.write(corpus, facts)
    run = provenance.run_record() | {"seconds": round(time.time() - started, 1)}
    provenance.write_json(corpus / "run.json", run)
    provenance.write_json(corpus / MANIFEST, manifest)
    if folder.exists():
        (folder / MANIFEST).unlink(missing_ok=True)  # from here on the old one is not finished
        shutil.rmtree(folder)
    corpus.replace(folder)
    provenance.fsync_folder(folder.parent)
    work.remove()


def remove_temporary(folder: Path) -> None:
    """Remove the half-written files of workers that were killed."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
