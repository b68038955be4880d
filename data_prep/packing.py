"""How documents become samples of exactly `sequence_length` tokens.

best_fit: a document that fits into a sample is never cut. Longer ones are cut into full samples and
a rest. Segments then go, longest first, each into the fullest sample it fits (best-fit decreasing),
computed for all segments of a length at once. If more than 0.1 % padding is left, samples made of
parts of cut documents alone, the emptiest first, are dissolved: cut again, they fill the gaps.

concat: documents in input order, cut wherever a sample ends.

Every segment is [CLS] text [SEP]; padding stands at the end. Documents are packed in groups of
about `shard_tokens`, fixed by recipe and input, so the result does not depend on the workers.
"""

import heapq
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep.shards import ranges
from runtime.config import Positive
from runtime.recipe import RecipeTable

NUM_SEPARATORS = 2
PADDING_GOAL = 0.001  # share of all positions
SMALLEST_GAP = 8  # tokens; no rest is cut into smaller pieces

Int64 = NDArray[np.int64]


class Packing(RecipeTable):
    """How documents become fixed-length samples."""

    sequence_length: int = Field(default=512, ge=8)  # tokens per sample, separators included
    strategy: Literal["best_fit", "concat"] = (
        "best_fit"  # concat fills every sample, cutting documents
    )
    drop_shorter_than: int = Field(default=4, ge=1)  # tokens; shorter documents are counted
    shard_tokens: Positive = 1 << 23  # documents packed together: memory and size of one shard
    valid_share: float = Field(default=0.005, ge=0.0, lt=1.0)  # of documents, by hash of the text

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.sequence_length < self.drop_shorter_than + NUM_SEPARATORS:
            raise ValueError(
                f"sequence_length ({self.sequence_length}) must be at least drop_shorter_than "
                f"({self.drop_shorter_than}) and the {NUM_SEPARATORS} separators"
            )
        if self.shard_tokens < self.sequence_length:
            raise ValueError(
                f"shard_tokens ({self.shard_tokens}) must be at least sequence_length "
                f"({self.sequence_length})"
            )
        return self


@dataclass(frozen=True)
class Segments:
    """Parts of documents and the sample each belongs to; all arrays have one entry a segment."""

    document: Int64  # number of the document
    start: Int64  # first token within the document
    length: Int64  # tokens of text, without separators
    sample: Int64

    @property
    def num_samples(self) -> int:
        return int(self.sample.max(initial=-1)) + 1

    def in_order(self) -> "Segments":
        """Sorted by sample; within one, in the order they were placed."""
        order = np.argsort(sort_keys(self.sample, len(self.sample)), kind="stable")
        return Segments(
            self.document[order], self.start[order], self.length[order], self.sample[order]
        )


def pack(lengths: Int64, packing: Packing) -> Segments:
    """Place documents of these lengths (tokens of text) into samples."""
    if packing.strategy == "concat":
        return concat(lengths, packing.sequence_length)
    segments = cut(lengths, packing.sequence_length)
    sample = best_fit(segments.length + NUM_SEPARATORS, packing.sequence_length)
    placed = Segments(segments.document, segments.start, segments.length, sample).in_order()
    return fill_gaps(placed, packing.sequence_length)


def cut(lengths: Int64, sequence_length: int) -> Segments:
    """Documents too long for a sample as full samples and a rest; `sample` is not yet set."""
    room = sequence_length - NUM_SEPARATORS
    num_parts = np.maximum(1, -(-lengths // room))
    document = np.repeat(np.arange(len(lengths), dtype=np.int64), num_parts)
    start = ranges(np.zeros(len(lengths), np.int64), num_parts) * room
    length = np.minimum(lengths[document] - start, room)
    return Segments(document, start, length, np.zeros(len(document), np.int64))


def best_fit(sizes: Int64, capacity: int) -> Int64:
    """The bin of each item by best-fit decreasing.

    Items of one size are placed together: into bins by the room they have left, least first, each
    taking as many as fit, as placing them one by one would; then into new bins.
    """
    order = np.argsort(sort_keys(capacity - sizes, capacity), kind="stable")
    values, counts = np.unique(sizes, return_counts=True)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # bins by room left
    rooms = 0  # bit r is set if a bin has room r
    placed: list[int] = []  # bin of each item, largest item first
    num_bins = 0
    for size, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        left = count
        while left:
            wide = rooms >> size
            if wide:
                room = size + (wide & -wide).bit_length() - 1
                held = with_room[room]
            else:
                room = capacity
                fresh = -(-left // (capacity // size))
                held = list(range(num_bins + fresh - 1, num_bins - 1, -1))
                num_bins += fresh
            per_bin = room // size
            used = min(len(held), -(-left // per_bin))
            taken = min(left, used * per_bin)
            chosen = held[: -used - 1 : -1]
            del held[-used:]
            if not held:
                rooms &= ~(1 << room)
            placed += (chosen if per_bin == 1 else [b for b in chosen for _ in range(per_bin)])[
                :taken
            ]
            last = taken - (used - 1) * per_bin  # items in the last bin used
            for remaining, bins in (
                (room - per_bin * size, chosen[:-1]), (room - last * size, chosen[-1:])
            ):  # fmt: skip
                if bins:
                    with_room[remaining] += bins
                    rooms |= 1 << remaining
            left -= taken
    bins_of = np.empty(len(sizes), np.int64)
    bins_of[order] = placed
    return bins_of


def sort_keys(values: Int64, most: int) -> NDArray[Any]:
    """As 16-bit numbers where they fit, which numpy sorts by radix."""
    return values.astype(np.uint16) if most < 1 << 16 else values


def fill_gaps(segments: Segments, sequence_length: int) -> Segments:
    """Dissolve samples that hold only parts of cut documents, the emptiest first, into the gaps of
    others, until padding is at most the goal or no gap is large enough."""
    num_samples = segments.num_samples
    used = np.bincount(
        segments.sample, weights=segments.length + NUM_SEPARATORS, minlength=num_samples
    ).astype(np.int64)
    is_cut = np.bincount(segments.document)[segments.document] > 1
    whole = np.bincount(segments.sample, weights=~is_cut, minlength=num_samples)
    donors = np.flatnonzero(whole == 0)
    donors = donors[np.argsort(used[donors], kind="stable")]
    gaps = [(int(n - sequence_length), sample) for sample, n in enumerate(used.tolist())]
    gaps = [gap for gap in gaps if -gap[0] >= SMALLEST_GAP]
    heapq.heapify(gaps)
    first = np.searchsorted(segments.sample, np.arange(num_samples + 1))
    dissolved: set[int] = set()
    filled: set[int] = set()
    moved: list[tuple[int, int, int, int]] = []  # document, start, length, sample
    padding = num_samples * sequence_length - int(used.sum())
    for donor in donors.tolist():
        if padding <= PADDING_GOAL * sequence_length * (num_samples - len(dissolved)):
            break
        if donor in filled:
            continue
        parts = [
            (int(segments.document[i]), int(segments.start[i]), int(segments.length[i]))
            for i in range(first[donor], first[donor + 1])
        ]
        dissolved.add(donor)
        pieces = spread_over(parts, gaps, dissolved)
        if pieces is None:
            dissolved.remove(donor)
            break
        filled |= {piece[3] for piece in pieces}
        moved += pieces
        added = sum(piece[2] + NUM_SEPARATORS for piece in pieces)
        padding -= sequence_length - int(used[donor]) + added
    return rearranged(segments, dissolved, moved)


def spread_over(
    parts: list[tuple[int, int, int]], gaps: list[tuple[int, int]], without: set[int]
) -> list[tuple[int, int, int, int]] | None:
    """Cut parts of documents to fill the largest gaps, which are used up; None if they do not
    suffice."""
    pieces = []
    for document, start, length in parts:
        while length:
            while gaps and gaps[0][1] in without:
                heapq.heappop(gaps)
            if not gaps:
                return None
            room, sample = heapq.heappop(gaps)
            size = min(length, -room - NUM_SEPARATORS)
            pieces.append((document, start, size, sample))
            start, length = start + size, length - size
            left = -room - NUM_SEPARATORS - size
            if left >= SMALLEST_GAP:
                heapq.heappush(gaps, (-left, sample))
    return pieces


def rearranged(
    segments: Segments, dissolved: set[int], moved: list[tuple[int, int, int, int]]
) -> Segments:
    """Without dissolved samples, with the pieces moved to others, samples numbered anew."""
    if not dissolved:
        return segments
    stays = ~np.isin(segments.sample, np.array(sorted(dissolved), np.int64))
    new = np.array(moved, np.int64).reshape(-1, 4)
    sample = np.concatenate([segments.sample[stays], new[:, 3]])
    return Segments(
        np.concatenate([segments.document[stays], new[:, 0]]),
        np.concatenate([segments.start[stays], new[:, 1]]),
        np.concatenate([segments.length[stays], new[:, 2]]),
        np.unique(sample, return_inverse=True)[1].astype(np.int64),
    ).in_order()


def concat(lengths: Int64, sequence_length: int) -> Segments:
    """Documents one after the other, cut where a sample ends."""
    ends = np.cumsum(lengths)
    first = ends - lengths
    sizes = [0, *np.cumsum(lengths + NUM_SEPARATORS).tolist()]
    cuts = []  # place in the text where each sample begins
    document, done = 0, 0  # of the document's tokens
    while document < len(lengths):
        cuts.append(int(first[document]) + done)
        left = sizes[document + 1] - sizes[document] - done  # with separators
        if left > sequence_length:
            done += sequence_length - NUM_SEPARATORS
            continue
        room = sequence_length - left
        whole = bisect_right(sizes, sizes[document + 1] + room, document + 1) - 1
        room -= sizes[whole] - sizes[document + 1]
        document, done = whole, max(0, room - NUM_SEPARATORS)
    start = np.union1d(first, np.array(cuts, np.int64))
    length = np.diff(start, append=ends[-1:])
    owner = np.searchsorted(first, start, side="right") - 1
    sample = np.searchsorted(np.array(cuts, np.int64), start, side="right") - 1
    return Segments(owner, start - first[owner], length, sample)
