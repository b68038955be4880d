"""Third pass: groups of encoded documents become shards.

A group is a run of documents of one source and split holding about `shard_tokens`, whatever units
they came from; it is packed by itself and becomes one shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import composing, encoding
from data_prep.encoders.encoded import token_type
from data_prep.encoding import encoded
from data_prep.packing import NUM_SEPARATORS, Packing
from data_prep.selecting import in_split
from data_prep.shards import Split, TokenizerFacts
from data_prep.units import Unit
from data_prep.work import Work, save_array

COUNTED_TOKENS = 1 << 20  # at a time: np.bincount makes an int64 copy
SPLITS: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True)
class Slice:
    """Some consecutive encoded documents of a unit, of both splits."""

    unit: str
    number: int  # of the unit within its source
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
                held.append(Slice(unit.name, unit.number, first, end))
            tokens += int(sums[end - 1]) - before
            first, before = end, int(sums[end - 1])
            if tokens >= shard_tokens:
                yield tuple(held)
                held, tokens = [], 0
    if held:
        yield tuple(held)


def write(job: ShardJob) -> dict[str, Any]:
    """Pack one group and write its shard; return its journal, which is its manifest entry."""
    encoding.release()
    texts, lengths, documents = load(job)
    folder = job.work.folder / "corpus" / "sources" / job.source
    folder.mkdir(parents=True, exist_ok=True)
    entry = composing.write(
        folder, job.shard, texts, lengths, documents, job.packing, job.tokenizer
    )
    counts = token_counts(texts, job.tokenizer.vocab_size)
    save_array(job.work.path(job.name, ".counts.npy"), counts)
    units = [[part.number, part.first, part.end] for part in job.slices]
    return job.work.finish(job.name, entry | {"units": units})


def token_counts(tokens: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    """(V,) how often each token occurs."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(tokens), COUNTED_TOKENS):
        counts += np.bincount(tokens[start : start + COUNTED_TOKENS], minlength=vocab_size)
    return counts


def load(job: ShardJob) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint64]]:
    """Tokens, lengths and numbers of the documents of a group."""
    parts = [(part, in_split(job.work, part.unit, job.split)) for part in job.slices]
    lengths, documents = (
        np.concatenate(
            [
                encoded(job.work, part.unit, kind)[part.first : part.end][
                    chosen[part.first : part.end]
                ]
                for part, chosen in parts
            ]
        )
        for kind in ("lengths", "documents")
    )
    dtype = token_type(job.tokenizer.vocab_size)
    texts = np.empty(int(lengths.sum()), dtype)
    filled = 0
    for part, chosen in parts:
        path = job.work.path(f"encode/{part.unit}", ".tokens.bin")
        ends = np.cumsum(encoded(job.work, part.unit, "lengths"))
        tokens = np.memmap(path, dtype, "r") if ends[-1] else np.zeros(0, dtype)
        for first, end in runs(chosen, part.first, part.end):
            found = tokens[ends[first - 1] if first else 0 : ends[end - 1]]
            texts[filled : filled + len(found)] = found
            filled += len(found)
    return texts, lengths, documents


def runs(chosen: NDArray[np.bool_], first: int, end: int) -> list[tuple[int, int]]:
    """Where in [first, end) something is chosen: the ranges without a gap."""
    padded = np.zeros(end - first + 2, bool)
    padded[1:-1] = chosen[first:end]
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + first
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
