"""Which documents are near copies of one that stays, from the signatures and bands of all units.

    candidates   documents that share a band, one range of band hashes at a time; of each group the
                 first is compared with the others, then the first of those unlike it, and so on
    families     what candidates that are alike connect, by union-find: parents are a mapped file of
                 8 bytes a document, and the root of a family is its first document
    leaders      within a family again the first stays and everything like it goes, then the first
                 of what is left, and so on

So whatever goes is like a document that stays, by the estimate from whole signatures: a chain of
small changes keeps its far end. Documents that share a band but are unlike are never joined.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep import minhash
from data_prep.priority import Priority, mapped
from data_prep.ranges import SortedRows, Spill, ranges

I64 = NDArray[np.int64]

PAIRS = 1 << 13  # compared at once: 8 MB of signatures at 256 bins
SCAN_DOCUMENTS = 1 << 20  # of the parents looked at together
GROUP_ROUNDS = 64  # leaders in a group of one band; other bands and the families find the rest
FAMILY = np.dtype([("root", "<u8"), ("document", "<u8")])


class Signatures:
    """Signatures of any documents, read from the files of their units."""

    def __init__(self, priority: Priority, paths: Sequence[Path], bins: int) -> None:
        self.priority, self.paths, self.bins = priority, paths, bins

    def of(self, documents: I64) -> NDArray[np.uint16]:
        """The signatures, (documents, bins)."""
        wanted, inverse = np.unique(documents, return_inverse=True)
        found = np.empty((len(wanted), self.bins), np.uint16)
        units = self.priority.units_of(wanted)
        for unit in np.unique(units).tolist():
            rows = np.flatnonzero(units == unit)
            stored = np.memmap(self.paths[unit], np.uint16, mode="r").reshape(-1, self.bins)
            found[rows] = stored[wanted[rows] - self.priority.offsets[unit]]
        return found[inverse]

    def alike(self, first: I64, second: I64, threshold: float) -> NDArray[np.bool_]:
        """Which pairs are estimated to reach the threshold."""
        found = np.zeros(len(first), bool)
        for start in range(0, len(first), PAIRS):
            part = slice(start, start + PAIRS)
            estimates = minhash.estimate(self.of(first[part]), self.of(second[part]))
            found[part] = estimates >= threshold
        return found


def drop_copies(
    priority: Priority,
    signatures: Signatures,
    bands: Sequence[SortedRows],
    threshold: float,
    folder: Path,
    range_rows: int,
) -> I64:
    """Let near copies go; return documents that went by source for one of each source, (S, S)."""
    parents = mapped(folder / "parents.bin", np.dtype(np.int64), len(priority))
    for start in range(0, len(priority), SCAN_DOCUMENTS):
        end = min(start + SCAN_DOCUMENTS, len(priority))
        parents[start:end] = np.arange(start, end)
    for documents, groups in candidates(priority, bands, range_rows):
        followers, leaders = led(documents, groups, signatures, threshold, GROUP_ROUNDS)
        join(parents, followers, leaders)
    matrix = np.zeros((priority.num_sources, priority.num_sources), np.int64)
    for documents, groups in families(parents, folder, range_rows):
        followers, leaders = led(documents, groups, signatures, threshold, None)
        matrix += priority.drop(followers, leaders)
    return matrix


def candidates(
    priority: Priority, bands: Sequence[SortedRows], range_rows: int
) -> Iterator[tuple[I64, I64]]:
    """Documents that share a band with others, and the number of their group: groups one after the
    other, documents in order. A group is never cut, so the largest one is held as a whole."""
    for blocks in ranges(bands, range_rows):
        hashes, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for block in blocks:
            documents = priority.offsets[block.units] + block.rows["document"]
            stays = ~priority.goes[documents]
            hashes.append(block.rows["hash"][stays])
            numbers.append(documents[stays])
        values, documents = np.concatenate(hashes), np.concatenate(numbers)
        order = np.argsort(values, kind="stable")
        yield shared(values[order], documents[order])


def shared(values: NDArray[np.uint64], documents: I64) -> tuple[I64, I64]:
    """The documents whose value others have too, and numbers of their groups; values are sorted."""
    is_first = np.ones(len(values), bool)
    is_first[1:] = values[1:] != values[:-1]
    groups = np.cumsum(is_first) - 1
    several = np.bincount(groups)[groups] > 1
    return documents[several], groups[several]


def led(
    documents: I64, groups: I64, signatures: Signatures, threshold: float, rounds: int | None
) -> tuple[I64, I64]:
    """Followers, and the leader that each is like. In each round the first document of a group
    leads, and those like it leave with it."""
    followers, leaders = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    number = 0
    while len(documents) and (rounds is None or number < rounds):
        is_first = np.ones(len(groups), bool)
        is_first[1:] = groups[1:] != groups[:-1]
        leader = documents[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
        others = np.flatnonzero(~is_first)
        alike = signatures.alike(documents[others], leader[others], threshold)
        followers.append(documents[others[alike]])
        leaders.append(leader[others[alike]])
        documents, groups = documents[others[~alike]], groups[others[~alike]]
        number += 1
    return np.concatenate(followers), np.concatenate(leaders)


def roots_of(parents: I64, documents: I64) -> I64:
    """The root of each document's family."""
    roots = parents[documents]
    while not np.array_equal(above := parents[roots], roots):
        roots = above
    return np.asarray(roots)


def join(parents: I64, first: I64, second: I64) -> None:
    """Make one family of each pair's two. Parents always have lower numbers than their children,
    so there are no circles, and roots are the first of their families."""
    while len(first):
        one, other = roots_of(parents, first), roots_of(parents, second)
        apart = one != other
        first, second = first[apart], second[apart]
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(parents, high, low)


def families(parents: I64, folder: Path, range_rows: int) -> Iterator[tuple[I64, I64]]:
    """Documents with their family's root: families of several one after the other, each in order.
    They go through files, so that only some families are held at once, though each as a whole."""
    spill = Spill(folder, "families", FAMILY)
    num_before = 0
    for start in range(0, len(parents), SCAN_DOCUMENTS):
        documents = np.arange(start, min(start + SCAN_DOCUMENTS, len(parents)))
        documents = documents[parents[documents] != documents]
        rows = np.empty(len(documents), FAMILY)
        rows["root"], rows["document"] = roots_of(parents, documents), documents
        spill.add(rows, (rows["root"] // SCAN_DOCUMENTS).astype(np.int64))
        num_before += len(rows)
    for bucket in range(-(-len(parents) // SCAN_DOCUMENTS)):
        rows = spill.read(bucket)
        roots = np.unique(rows["root"])
        groups = np.concatenate([roots, rows["root"]]).astype(np.int64)
        documents = np.concatenate([roots, rows["document"]]).astype(np.int64)
        order = np.argsort(groups, kind="stable")  # a root stands before its family
        yield documents[order], groups[order]
