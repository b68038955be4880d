"""Another sequence length, or strategy, from existing shards, without the raw text.

A shard says where each segment stood in its text, so the documents of a shard come back whole and
in their order; they are packed anew and become the shard of the same name. The result is, byte for
byte, the shards that the corpus would have been built with at once. Splits, tokenizer and counts of
documents stay.

Unit of work is a shard. What is done stands in `OUTPUT.work`, and an interrupted run goes on there;
OUTPUT gets its name when all of it is there.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import composing, executor
from data_prep.blocks import AGAIN, BlockFile
from data_prep.packing import NUM_SEPARATORS, Packing
from data_prep.shards import (
    SPLITS,
    Corpus,
    TokenizerFacts,
    manifest_fingerprint,
    ranges,
    shapes_of,
    split_of,
)
from data_prep.work import Work
from runtime import provenance
from runtime.config import Launch
from runtime.errors import DataError, RecipeError
from runtime.stages import MANIFEST

KEPT = ("drop_shorter_than", "shard_tokens", "valid_share")  # decided when documents were chosen

Entry = dict[str, Any]


@dataclass(frozen=True)
class RepackJob:
    """What a worker needs to pack one shard anew."""

    work: Work
    folder: Path  # of the source's shards
    source: str
    entry: Entry
    sequence_length: int  # of the shard
    tokenizer: TokenizerFacts
    packing: Packing

    @property
    def name(self) -> str:
        return f"repack/{self.source}/{self.entry['name']}"


def packing_of(folder: Path) -> Packing:
    """The table that the shards in a data folder were packed with."""
    return table_of(Corpus(folder))


def table_of(corpus: Corpus) -> Packing:
    table = Packing.model_validate(corpus.manifest["config"]["packing"])
    return table.model_copy(update={"sequence_length": corpus.sequence_length})


def repack(folder: Path, output: Path, packing: Packing, workers: int) -> dict[str, Any]:
    """Pack the documents of the corpus in `folder` anew into the data folder `output`; return its
    manifest.

    Only `sequence_length` and `strategy` may differ from `packing_of(folder)`. Raises RecipeError
    for another difference, DataError for damaged shards and for an `output` that holds something
    else.
    """
    corpus = Corpus(folder)
    check_table(table_of(corpus), packing)
    inputs = provenance.fingerprint([corpus.fingerprint, packing.model_dump(mode="json")])
    if output.exists():
        return finished(output, inputs)
    work = Work(output.with_name(f"{output.name}.work"))
    with work.open(inputs), executor.opened(Launch(workers=workers), work) as run:
        jobs = jobs_of(work, corpus, packing)
        entries = run_jobs(run, work, jobs)
        manifest = manifest_of(corpus, packing, inputs, jobs, entries)
        publish(work, corpus, output, manifest)
    return manifest


def check_table(old: Packing, new: Packing) -> None:
    """Raise RecipeError if more is to change than shards alone can tell."""
    changed = [key for key in KEPT if getattr(old, key) != getattr(new, key)]
    if changed:
        raise RecipeError(
            "repack cannot change "
            + ", ".join(
                f"packing.{key} ({getattr(old, key)} to {getattr(new, key)})" for key in changed
            )
            + ": that needs the raw text; leave them as they are, or build the corpus anew"
        )


def finished(output: Path, inputs: str) -> dict[str, Any]:
    """The manifest of an earlier run of the same. Raises DataError if `output` is anything else."""
    if (output / MANIFEST).is_file():
        manifest = Corpus(output).manifest
        if manifest["inputs"] == inputs:
            return manifest
    raise DataError(f"{output} exists and is something else; remove it, or choose another folder")


def jobs_of(work: Work, corpus: Corpus, packing: Packing) -> list[RepackJob]:
    return [
        RepackJob(work, corpus.folder / "sources" / name, name, entry, corpus.sequence_length,
                  corpus.tokenizer, packing)
        for name, facts in corpus.sources.items()
        for split in SPLITS
        for entry in facts.splits[split]["shards"]
    ]  # fmt: skip


def run_jobs(run: executor.Run, work: Work, jobs: Sequence[RepackJob]) -> list[Entry]:
    """Run the jobs that have no journal yet; return all entries in the order of the jobs."""
    journals = [work.journal(job.name) for job in jobs]
    todo = [number for number, journal in enumerate(journals) if journal is None]
    left = [jobs[number] for number in todo]
    for place, journal in run(repack_shard, left, [job.name for job in left]):
        journals[todo[place]] = journal
    return [journal for journal in journals if journal is not None]


def repack_shard(job: RepackJob) -> Entry:
    """Write the shard of the same name; return its journal, which is its manifest entry."""
    folder = job.work.folder / "corpus" / "sources" / job.source
    folder.mkdir(parents=True, exist_ok=True)
    name = job.entry["name"]
    texts, lengths, documents = documents_of(job)
    entry = composing.write(folder, name, texts, lengths, documents, job.packing, job.tokenizer)
    return job.work.finish(job.name, dict(job.entry) | entry)


def documents_of(
    job: RepackJob,
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint64]]:
    """The documents of a shard: tokens one after the other, lengths, numbers, in input order."""
    files = {kind: checked(job, kind) for kind in ("lengths", "offsets", "documents", "starts")}
    order = np.argsort(files["starts"], kind="stable")
    sizes = files["lengths"].astype(np.int64)
    counts = np.diff(files["offsets"])
    in_sample = np.cumsum(sizes) - sizes
    in_sample -= np.repeat(in_sample[files["offsets"][:-1]], counts)
    places = np.repeat(np.arange(len(counts)) * job.sequence_length, counts) + in_sample + 1
    starts, lengths = files["starts"][order], (sizes - NUM_SEPARATORS)[order]
    texts = texts_at(checked(job, "tokens").reshape(-1), places[order], lengths)
    follows = starts[1:] == (starts + lengths)[:-1]  # else there is a free place between
    first = np.flatnonzero(np.concatenate([[True], ~follows]))
    return texts, np.add.reduceat(lengths, first), files["documents"][order][first]


def texts_at(
    tokens: NDArray[Any], places: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """The tokens at these places, so many of each, one after the other."""
    ends = np.cumsum(lengths)
    texts = np.empty(int(lengths.sum()), tokens.dtype)
    begin = 0
    while begin < len(lengths):
        before = int(ends[begin] - lengths[begin])
        end = max(begin + 1, int(np.searchsorted(ends, before + composing.COPY_TOKENS, "right")))
        index = ranges(places[begin:end], lengths[begin:end])
        np.take(tokens, index, out=texts[before : int(ends[end - 1])], mode="clip")
        begin = end
    return texts


def checked(job: RepackJob, kind: str) -> NDArray[Any]:
    """A file of the shard, mapped, all its blocks compared. Raises DataError."""
    path = job.folder / f"{job.entry['name']}.{kind}.npy"
    if kind not in job.entry["files"]:
        raise DataError(f"{path} is not in the manifest: the corpus cannot be repacked; {AGAIN}")
    file = BlockFile(
        path, job.entry["files"][kind], shapes_of(job.entry, job.sequence_length)[kind]
    )
    faults = list(file.faults())
    if faults:
        raise DataError("\n".join(faults))
    return file.array


def manifest_of(
    corpus: Corpus, packing: Packing, inputs: str, jobs: Sequence[RepackJob],
    entries: Sequence[Entry],
) -> dict[str, Any]:  # fmt: skip
    """The manifest of the corpus, with what packing changes."""
    by_name = {job.name: entry for job, entry in zip(jobs, entries, strict=True)}
    sources = {}
    for name, entry in corpus.manifest["sources"].items():
        splits = {}
        for split in SPLITS:
            shards = entry["splits"][split]["shards"]
            own = [by_name[f"repack/{name}/{shard['name']}"] for shard in shards]
            splits[split] = split_of(own, packing.sequence_length)
        sources[name] = entry | {"splits": splits}
    config = corpus.manifest["config"] | {"packing": packing.model_dump(mode="json")}
    manifest = corpus.manifest | {
        "inputs": inputs,
        "repacked_from": corpus.fingerprint,
        "sequence_length": packing.sequence_length,
        "config": config,
        "config_fingerprint": provenance.fingerprint(config),
        "sources": sources,
    }
    return manifest | {"fingerprint": manifest_fingerprint(manifest)}


def publish(work: Work, corpus: Corpus, output: Path, manifest: dict[str, Any]) -> None:
    """Add tokenizer and manifest, and give the corpus its name in one rename."""
    folder = work.folder / "corpus"
    for path in folder.rglob(".*.tmp"):  # of workers that were killed
        path.unlink(missing_ok=True)
    shutil.copytree(corpus.tokenizer.folder, folder / "tokenizer", dirs_exist_ok=True)
    # A run that needed another length repacks by itself: `verify` tells how to do the same.
    command = ["python -m data_prep", "repack", str(corpus.folder), str(output),
               *(f"packing.{key}={json.dumps(manifest['config']['packing'][key])}"
                 for key in ("sequence_length", "strategy"))]  # fmt: skip
    provenance.write_json(folder / "run.json", provenance.run_record() | {"command": command})
    provenance.write_json(folder / MANIFEST, manifest)
    folder.replace(output)
    provenance.fsync_folder(output.parent)
    work.remove()
