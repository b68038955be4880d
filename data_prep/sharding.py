"""Third pass: groups of encoded documents become shards.

A group is a run of documents of one source and split holding about `shard_tokens`, whatever units
they came from; it is packed by itself and becomes one shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import packing, shards
from data_prep.encoding import token_type
from data_prep.packing import NUM_SEPARATORS, Packing
from data_prep.shards import Split, TokenizerFacts
from data_prep.units import Unit
from data_prep.work import Work

SPLITS: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True)
class Slice:
    """Some consecutive documents of a unit, of both splits."""

    unit: str
    first: int
    end: int


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to write one shard."""

    work: Work
    source: str
    split: Split
    number: int
    slices: tuple[Slice, ...]
    tokenizer: TokenizerFacts
    packing: Packing

    @property
    def shard(self) -> str:
        return f"{self.split}-{self.number:05d}"

    @property
    def name(self) -> str:
        return f"shard/{self.source}/{self.shard}"


def jobs_of(
    work: Work, source: str, units: Sequence[Unit], tokenizer: TokenizerFacts, table: Packing
) -> Iterator[ShardJob]:
    """The shards of a source, for training and for validation."""
    for split in SPLITS:
        for number, slices in enumerate(groups(work, units, split, table.shard_tokens)):
            yield ShardJob(work, source, split, number, slices, tokenizer, table)


def groups(
    work: Work, units: Sequence[Unit], split: Split, shard_tokens: int
) -> Iterator[tuple[Slice, ...]]:
    """Cut the documents of a split, in input order, where the tokens reach `shard_tokens`."""
    held: list[Slice] = []
    tokens = 0
    for unit in units:
        lengths, wanted = encoded(work, unit.name, "lengths"), in_split(work, unit.name, split)
        sums = np.cumsum(np.where(wanted, lengths + NUM_SEPARATORS, 0))
        first, before = 0, 0
        while first < len(lengths):
            end = int(np.searchsorted(sums, before + shard_tokens - tokens)) + 1
            end = min(end, len(lengths))
            if wanted[first:end].any():
                held.append(Slice(unit.name, first, end))
            tokens += int(sums[end - 1]) - before
            first, before = end, int(sums[end - 1])
            if tokens >= shard_tokens:
                yield tuple(held)
                held, tokens = [], 0
    if held:
        yield tuple(held)


def encoded(work: Work, unit: str, kind: str) -> NDArray[Any]:
    """One of the .npy files of an encoded unit, mapped."""
    path = work.path(f"encode/{unit}", f".{kind}.npy")
    return np.asarray(np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None))


def in_split(work: Work, unit: str, split: Split) -> NDArray[np.bool_]:
    valid = encoded(work, unit, "valid")
    return valid if split == "valid" else ~valid


def write(job: ShardJob) -> dict[str, Any]:
    """Pack one group and write its shard; return its journal, which is its manifest entry."""
    facts, table = job.tokenizer, job.packing
    texts, lengths, documents = load(job)
    segments = packing.pack(lengths, table)
    packed = packing.compose(
        texts, lengths, segments, table.sequence_length, facts.cls_id, facts.sep_id, facts.pad_id
    )
    folder = job.work.folder / "corpus" / "sources" / job.source
    folder.mkdir(parents=True, exist_ok=True)
    entry = shards.write_shard(
        folder,
        job.shard,
        packed.tokens,
        packed.lengths,
        packed.offsets,
        documents[packed.documents],
    )
    counts = {"num_documents": len(lengths), "documents_cut": packed.num_cut}
    return job.work.finish(job.name, counts | entry)


def load(job: ShardJob) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint64]]:
    """Tokens, lengths and numbers of the documents of a group."""
    texts, lengths, documents = [], [], []
    dtype = token_type(job.tokenizer.vocab_size)
    for part in job.slices:
        chosen = in_split(job.work, part.unit, job.split)[part.first : part.end]
        sizes = encoded(job.work, part.unit, "lengths")
        begin = int(sizes[: part.first].sum())
        sizes = sizes[part.first : part.end]
        path = job.work.path(f"encode/{part.unit}", ".tokens.bin")
        tokens = np.memmap(path, dtype, "r", offset=begin * dtype.itemsize, shape=int(sizes.sum()))
        texts.append(tokens[np.repeat(chosen, sizes)])
        lengths.append(sizes[chosen])
        documents.append(encoded(job.work, part.unit, "documents")[part.first : part.end][chosen])
    return np.concatenate(texts), np.concatenate(lengths), np.concatenate(documents)
