"""Rows of many units, sorted by hash within each unit's file, read one range of hashes at a time.

A file holds the rows of a numpy dtype one after the other, nothing else; the first field, `hash`,
is the uint64 by which they are sorted. Hashes are spread evenly, so equal ranges of their values
hold about equally many rows: what is read at once does not grow with the corpus, and each row is
read once. Files are read, not mapped: mapped pages would count as memory of the process.
"""

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.provenance import atomic

KEY_BYTES = 8


@dataclass(frozen=True)
class SortedRows:
    """The file of one unit."""

    path: Path
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.path.stat().st_size // self.dtype.itemsize

    def bisect(self, bound: int, first: int) -> int:
        """The first row from `first` on whose hash is not below `bound`."""
        with self.path.open("rb") as file:
            descriptor, size = file.fileno(), self.dtype.itemsize
            return bisect_left(
                range(len(self)),
                bound,
                lo=first,
                key=lambda row: int.from_bytes(
                    os.pread(descriptor, KEY_BYTES, row * size), "little"
                ),
            )

    def read(self, start: int, end: int) -> NDArray[Any]:
        return np.fromfile(
            self.path, self.dtype, count=end - start, offset=start * self.dtype.itemsize
        )


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
    more than one where few hashes are very frequent. Blocks must be taken in order."""
    sizes = [len(file) for file in files]
    bits = (max(sum(sizes), 1) - 1).bit_length() - range_rows.bit_length() + 1
    num_ranges = 1 << max(bits, 0)
    starts = [0] * len(files)
    for number in range(1, num_ranges + 1):
        bound = number * (1 << 64) // num_ranges
        ends = [
            size if number == num_ranges else file.bisect(bound, start)
            for file, size, start in zip(files, sizes, starts, strict=True)
        ]
        yield blocks(files, starts, ends, range_rows)
        starts = ends


def blocks(
    files: Sequence[SortedRows], starts: Sequence[int], ends: Sequence[int], range_rows: int
) -> Iterator[Block]:
    """The rows from `starts` to `ends` of each unit, in the order of units."""
    held: list[NDArray[Any]] = []
    units: list[int] = []
    num_held = 0
    for unit, file in enumerate(files):
        for start in range(starts[unit], ends[unit], range_rows):
            held.append(file.read(start, min(start + range_rows, ends[unit])))
            units.append(unit)
            num_held += len(held[-1])
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
