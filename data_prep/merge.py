"""The merge: which copies of documents and of lines go, from the prints of all units.

    exact   equal texts: the first stays
    near    near copies among the documents that are left (`data_prep/near.py`)
    lines   repeated lines among the documents that are left: the first of all stays; a document of
            which too little stays goes as a whole, and is counted apart

Sequential over ranges of hashes (`data_prep/ranges.py`): what is held does not grow with the corpus
but for 24 bytes a document within one unit, the largest group of near copies, 50 kB a unit where
there are over a thousand, and mapped files of 1 byte a document (9 with `near`). Writes
keep/<unit>.npy, bool (n,), and with `lines` what `data_prep/lines.py` describes.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import near
from data_prep.dedup import Dedup
from data_prep.lines import LINE
from data_prep.prints import BAND, EXACT
from data_prep.priority import Priority
from data_prep.ranges import Block, SortedRows, Spill, ranges
from data_prep.units import Unit
from data_prep.work import Work, save_array

I64 = NDArray[np.int64]

RANGE_ROWS = 1 << 19  # held at a time: about 50 MB
PIECE_ROWS = 1 << 9  # read of a unit at a time, on average: else ranges x units would be opened
REPEAT = np.dtype(
    [("document", "<i8"), ("line", "<u4"), ("characters", "<u4"), ("kept_source", "<i8")]
)


def merge(
    work: Work,
    units: Sequence[Unit],
    places: Mapping[str, int],
    table: Dedup,
    range_rows: int = RANGE_ROWS,
) -> dict[str, Any]:
    """Decide for all units, which stand in order of priority; `places` are numbers of sources.

    Returns counts by source, (S, S) matrices of what went from the row's source because the
    column's has it: documents `exact` and `near`, `lines` and their `line_characters`; `emptied`
    (S,) are documents that went because too little was left of them. `range_rows` changes memory
    and time only.
    """
    range_rows = max(range_rows, PIECE_ROWS * len(units))
    folder = work.folder / "merging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sizes = [num_documents(work, unit) for unit in units]
    priority = Priority(folder, units, sizes, places)
    found: dict[str, I64] = {
        kind: np.zeros((len(places), len(places)), np.int64)
        for kind in ("exact", "near", "lines", "line_characters")
    }
    found["emptied"] = np.zeros(len(places), np.int64)
    if table.exact:
        for _, copies, kept in repeats(priority, files(work, units, "exact", EXACT), range_rows):
            found["exact"] += priority.drop(copies, kept)
    if table.near:
        paths = [work.path(f"read/{unit.name}", ".signatures.bin") for unit in units]
        found["near"] = near.drop_copies(
            priority,
            near.Signatures(priority, paths, table.near_bins),
            files(work, units, "bands", BAND),
            table.near_threshold,
            folder,
            range_rows,
        )
    if table.lines:
        spill = Spill(folder, "lines", REPEAT)
        buckets = line_buckets(work, units, range_rows)
        find_lines(priority, files(work, units, "lines", LINE), spill, buckets, range_rows)
        cut_lines(work, priority, spill, buckets, table.min_left_characters, found)
    priority.save(work)
    shutil.rmtree(folder)
    return {kind: counts.tolist() for kind, counts in found.items()}


def num_documents(work: Work, unit: Unit) -> int:
    return len(np.load(work.path(f"read/{unit.name}", ".hashes.npy"), mmap_mode="r"))


def files(work: Work, units: Sequence[Unit], kind: str, dtype: np.dtype[Any]) -> list[SortedRows]:
    return [SortedRows(work.path(f"read/{unit.name}", f".{kind}.bin"), dtype) for unit in units]


def repeats(
    priority: Priority, sorted_files: Sequence[SortedRows], range_rows: int
) -> Iterator[tuple[NDArray[Any], I64, I64]]:
    """Rows that are equal to one before them among documents that stay, in parts: the rows, their
    documents, and the documents of the first of their equals."""
    for blocks in ranges(sorted_files, range_rows):
        firsts: NDArray[Any] = np.zeros(0, sorted_files[0].dtype)  # of the range so far
        owners = np.zeros(0, np.int64)
        for block in blocks:
            rows, documents = staying(priority, block)
            rows = np.concatenate([firsts, rows])
            documents = np.concatenate([owners, documents])
            order = sorted_order(rows)
            rows, documents = rows[order], documents[order]
            is_copy = equals_previous(rows)
            first = np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(rows))))
            yield rows[is_copy], documents[is_copy], documents[first[is_copy]]
            firsts, owners = rows[~is_copy], documents[~is_copy]


def staying(priority: Priority, block: Block) -> tuple[NDArray[Any], I64]:
    """The rows of a block whose documents stay, and the numbers of these."""
    documents = priority.offsets[block.units] + block.rows["document"]
    stays = ~priority.goes[documents]
    return block.rows[stays], documents[stays]


def sorted_order(rows: NDArray[Any]) -> I64:
    """By hash; equal ones stay in order."""
    if "low" in (rows.dtype.names or ()):
        return np.lexsort((rows["low"], rows["hash"]))
    return np.argsort(rows["hash"], kind="stable")


def equals_previous(rows: NDArray[Any]) -> NDArray[np.bool_]:
    found = np.zeros(len(rows), bool)
    found[1:] = rows["hash"][1:] == rows["hash"][:-1]
    if "low" in (rows.dtype.names or ()):
        found[1:] &= rows["low"][1:] == rows["low"][:-1]
    return found


def line_buckets(work: Work, units: Sequence[Unit], range_rows: int) -> I64:
    """The bucket of each unit: consecutive units with about `range_rows` lines together."""
    sizes = [len(file) for file in files(work, units, "lines", LINE)]
    return np.asarray(np.cumsum([0, *sizes])[:-1] // range_rows)


def find_lines(
    priority: Priority,
    sorted_files: Sequence[SortedRows],
    spill: Spill,
    buckets: I64,
    range_rows: int,
) -> None:
    """Put the repeated lines aside by the bucket of their document's unit."""
    for rows, documents, kept in repeats(priority, sorted_files, range_rows):
        found = np.empty(len(rows), REPEAT)
        found["document"], found["kept_source"] = documents, priority.sources_of(kept)
        found["line"], found["characters"] = rows["line"], rows["characters"]
        spill.add(found, buckets[priority.units_of(documents)])


def cut_lines(
    work: Work,
    priority: Priority,
    spill: Spill,
    buckets: I64,
    min_left: int,
    found: dict[str, I64],
) -> None:
    """Write keep/<unit>.lines.npy of all units, let documents go of which too little is left, and
    count both."""
    for bucket in np.unique(buckets).tolist():
        repeated = spill.read(bucket)
        repeated = repeated[np.lexsort((repeated["line"], repeated["document"]))]
        for number in np.flatnonzero(buckets == bucket).tolist():
            start, end = priority.offsets[number : number + 2]
            bounds = np.searchsorted(repeated["document"], [start, end])
            rows = repeated[bounds[0] : bounds[1]]
            name = priority.units[number].name
            left = np.load(work.path(f"read/{name}", ".characters.npy")).astype(np.int64)
            places = rows["document"] - start
            np.subtract.at(left, places, rows["characters"].astype(np.int64))
            emptied = np.intersect1d(np.flatnonzero(left < min_left), places)
            priority.goes[start + emptied] = True
            source = priority.unit_sources[number]
            found["emptied"][source] += len(emptied)
            stays = ~np.isin(places, emptied)
            count_lines(found, source, rows[stays])
            save_lines(work.path(f"keep/{name}", ".lines.npy"), places[stays], rows[stays])


def count_lines(found: dict[str, I64], source: int, rows: NDArray[Any]) -> None:
    """Add the lines of a unit that go, and their characters."""
    np.add.at(found["lines"][source], rows["kept_source"], 1)
    np.add.at(found["line_characters"][source], rows["kept_source"], rows["characters"])


def save_lines(path: Path, documents: I64, rows: NDArray[Any]) -> None:
    save_array(path, np.stack([documents, rows["line"]], axis=1).astype(np.uint32))
