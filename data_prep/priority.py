"""All documents numbered by priority, and which of them still stay.

A document's number is its place in the order of sources, units and rows: of two copies the one with
the lower number stays. What goes is a byte a document in a mapped file, which the system can write
out of memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.units import Unit
from data_prep.work import Work, save_array


class Priority:
    """The documents of all units. `sizes` are documents of each unit."""

    def __init__(
        self, folder: Path, units: Sequence[Unit], sizes: Sequence[int], places: Mapping[str, int]
    ) -> None:
        self.units = units
        self.offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])  # (U + 1,)
        self.unit_sources = np.array([places[unit.source] for unit in units], np.int64)
        self.num_sources = len(places)
        self.goes = mapped(folder / "goes.bin", np.dtype(bool), int(self.offsets[-1]))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def units_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(np.searchsorted(self.offsets, documents, "right") - 1)

    def sources_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.unit_sources[self.units_of(documents)]

    def drop(self, copies: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """Let the copies go; return how many of each source (rows) for one of each source."""
        self.goes[copies] = True
        return self.matrix(self.sources_of(copies), self.sources_of(kept))

    def matrix(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], weights: Any = 1
    ) -> NDArray[np.int64]:
        """Sums of weights by pairs of sources, (S, S)."""
        found = np.zeros((self.num_sources, self.num_sources), np.int64)
        np.add.at(found, (rows, columns), weights)
        return found

    def save(self, work: Work) -> None:
        """Write keep/<unit>.npy of all units: bool (n,)."""
        for number, unit in enumerate(self.units):
            start, end = self.offsets[number : number + 2]
            save_array(work.path(f"keep/{unit.name}", ".npy"), ~self.goes[start:end])


def mapped(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """A file of zeros as an array; an empty array needs no file."""
    if not count:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="w+", shape=(count,))
