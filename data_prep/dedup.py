"""Exact duplicates across all sources, and which documents are for validation.

Units hash their texts in the first pass; here all hashes are merged in the order of the recipe's
sources, then of units, then of documents: the first copy stays. Both the order and the result are
independent of the workers. Memory is bounded: hashes are merged one range of values at a time.

The validation part is drawn by the same hash, so that copies can never be on both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from runtime.recipe import RecipeTable

RANGE_DOCUMENTS = 1 << 24  # hashes held at a time: 0.4 GB


class Dedup(RecipeTable):
    """Which documents count as the same text. The first copy stays: sources in recipe order."""

    exact: bool = True  # remove repeated texts within and across sources
    # text: equal byte for byte; words: white space aside; words_any_case: case aside too
    compare: Literal["text", "words", "words_any_case"] = "words"


@dataclass(frozen=True)
class Merged:
    """What is left after removing copies."""

    keep: list[NDArray[np.bool_]]  # per unit, per document
    copies: NDArray[np.int64]  # (S, S): documents of a source dropped for a copy in another


def text_hash(text: str, table: Dedup) -> tuple[int, int]:
    """The 128-bit hash of a text as two numbers of 64 bits."""
    if table.compare != "text":
        text = " ".join(text.split())
    if table.compare == "words_any_case":
        text = text.casefold()
    value = xxhash.xxh3_128_intdigest(text.encode("utf-8"))
    return value >> 64, value & 0xFFFF_FFFF_FFFF_FFFF


def first_copies(
    hashes: Sequence[NDArray[np.uint64]], sources: Sequence[int], num_sources: int
) -> Merged:
    """Keep the first of equal texts. `hashes` are (n, 2) per unit in order of priority, `sources`
    the number of each unit's source."""
    keep = [np.ones(len(unit), bool) for unit in hashes]
    copies = np.zeros((num_sources, num_sources), np.int64)
    total = sum(len(unit) for unit in hashes)
    num_ranges = 1 << max(0, (total // RANGE_DOCUMENTS).bit_length())
    shift = np.uint64(64 - num_ranges.bit_length() + 1)
    for part in range(num_ranges):
        rows, values, units = [], [], []
        for number, unit in enumerate(hashes):
            inside = (
                np.arange(len(unit))
                if num_ranges == 1
                else np.flatnonzero((unit[:, 0] >> shift) == part)
            )
            rows.append(inside)
            values.append(np.asarray(unit[inside]))
            units.append(np.full(len(inside), number, np.int64))
        merge_range(rows, values, units, np.asarray(sources, np.int64), keep, copies)
    return Merged(keep, copies)


def merge_range(
    rows: list[NDArray[Any]],
    values: list[NDArray[np.uint64]],
    units: list[NDArray[np.int64]],
    sources: NDArray[np.int64],
    keep: list[NDArray[np.bool_]],
    copies: NDArray[np.int64],
) -> None:
    """Mark the copies among the documents whose hashes lie in one range."""
    row, value, unit = np.concatenate(rows), np.concatenate(values), np.concatenate(units)
    order = np.lexsort((value[:, 1], value[:, 0]))  # stable: equal hashes stay in priority order
    value, row, unit = value[order], row[order], unit[order]
    is_copy = np.zeros(len(value), bool)
    is_copy[1:] = (value[1:] == value[:-1]).all(axis=1)
    first = np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(value))))
    where = np.flatnonzero(is_copy)
    np.add.at(copies, (sources[unit[where]], sources[unit[first[where]]]), 1)
    for number in np.unique(unit[where]):
        keep[number][row[where[unit[where] == number]]] = False


def is_valid(hashes: NDArray[np.uint64], valid_share: float) -> NDArray[np.bool_]:
    """Which documents are for validation."""
    return np.asarray(hashes[:, 1] < np.uint64(int(valid_share * 2**64)))
