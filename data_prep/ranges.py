"""Rows of many units, sorted by hash within each unit's file, read one range of hashes at a time.

A file holds the rows of a numpy dtype one after the other, nothing else; the first field, `hash`,
is the uint64 by which they are sorted. Hashes are spread evenly, so equal ranges of their values
hold about equally many rows: what is held at once does not grow with the corpus. For the same
reason a range's rows of a file are where they are expected, so they are read by one read with a
margin, and no search goes over the file. Files are read, not mapped: mapped pages would count as
memory of the process.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.provenance import atomic

MARGIN_ROWS = 8  # read beyond those expected, with two deviations of their number
MOST_ROWS = 1 << 22  # of one read


@dataclass(frozen=True)
class SortedRows:
    """The file of one unit."""

    path: Path
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.path.stat().st_size // self.dtype.itemsize

    def below(self, limit: int, start: int, expected: float, most: int) -> Iterator[NDArray[Any]]:
        """The rows from `start` on whose hash is below `limit`, of which so many are `expected`, at
        most `most` at a time."""
        count = math.ceil(expected + 2 * math.sqrt(expected)) + MARGIN_ROWS
        last = np.uint64(limit - 1)
        with self.path.open("rb", buffering=0) as file:
            while True:
                count = min(count, most, MOST_ROWS)
                rows = self.read(file.fileno(), start, count)
                end = int(np.searchsorted(rows["hash"], last, side="right"))
                if end:
                    yield rows[:end]
                if end < count:  # a greater hash, or the end of the file
                    return
                start += end
                count *= 2

    def read(self, descriptor: int, start: int, count: int) -> NDArray[Any]:
        """So many rows of the open file, fewer at its end."""
        size = self.dtype.itemsize
        return np.frombuffer(os.pread(descriptor, count * size, start * size), self.dtype)


@dataclass(frozen=True)
class Block:
    """Rows of one range; equal hashes stand in the order of their units."""

    rows: NDArray[Any]
    units: NDArray[np.int64]  # number of the unit of each row


def save_sorted(path: Path, rows: NDArray[Any]) -> None:
    """Write the rows of a unit; equal hashes keep their order."""
    order = np.argsort(rows["hash"], kind="stable")
    with atomic(path) as temporary:
        rows[order].tofile(temporary)


def ranges(files: Sequence[SortedRows], range_rows: int) -> Iterator[Iterator[Block]]:
    """Ranges of about `range_rows` rows in the order of hashes, each in blocks of about as many:
    more than one where few hashes are very frequent. All blocks of a range must be taken before the
    next range."""
    sizes = [len(file) for file in files]
    bits = (max(sum(sizes), 1) - 1).bit_length() - range_rows.bit_length() + 1
    num_ranges = 1 << max(bits, 0)
    starts = [0] * len(files)
    for number in range(1, num_ranges + 1):
        limit = number * (1 << 64) // num_ranges
        expected = [
            (size - start) / (num_ranges - number + 1)
            for size, start in zip(sizes, starts, strict=True)
        ]
        yield blocks(files, starts, limit, expected, range_rows)


def blocks(
    files: Sequence[SortedRows],
    starts: list[int],
    limit: int,
    expected: Sequence[float],
    range_rows: int,
) -> Iterator[Block]:
    """The rows from `starts` on with hashes below `limit`, in the order of units; moves `starts`
    behind them."""
    held: list[NDArray[Any]] = []
    units: list[int] = []
    num_held = 0
    for unit, file in enumerate(files):
        if not expected[unit]:
            continue
        for rows in file.below(limit, starts[unit], expected[unit], range_rows):
            starts[unit] += len(rows)
            held.append(rows)
            units.append(unit)
            num_held += len(rows)
            if num_held >= range_rows:
                yield block_of(held, units)
                held, units, num_held = [], [], 0
    if held:
        yield block_of(held, units)


def block_of(held: Sequence[NDArray[Any]], units: Sequence[int]) -> Block:
    return Block(np.concatenate(held), np.repeat(units, [len(rows) for rows in held]))


class Spill:
    """Rows put aside in a few files, to be read again one file at a time."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any]) -> None:
        self.folder, self.name, self.dtype = folder, name, dtype

    def path(self, bucket: int) -> Path:
        return self.folder / f"{self.name}.{bucket:06d}.bin"

    def add(self, rows: NDArray[Any], buckets: NDArray[np.int64]) -> None:
        """Append each row to the file of its bucket."""
        if not len(rows):
            return
        order = np.argsort(buckets, kind="stable")
        found, counts = np.unique(buckets, return_counts=True)
        start = 0
        for bucket, count in zip(found.tolist(), counts.tolist(), strict=True):
            with self.path(bucket).open("ab") as file:
                rows[order[start : start + count]].tofile(file)
            start += count

    def read(self, bucket: int) -> NDArray[Any]:
        """The rows of a bucket, in the order in which they came."""
        path = self.path(bucket)
        return np.fromfile(path, self.dtype) if path.exists() else np.zeros(0, self.dtype)
