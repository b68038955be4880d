"""Bands of up to 10^8 signatures partitioned and joined to families, as the merge does it.

    python benchmarks/scale_near_duplicates.py [--quick] [--signatures N] [--unit-bytes N]

Documents are made up: their band hashes are random, and every tenth shares 11 of its 26 bands with
an earlier one, as texts with a similarity of 0.9 do on average. Units hold as many as 1 GiB of 5 kB
texts, so their files, their number and the reads are those of a real corpus; what is not here is
the texts. All pairs that share a band count as copies, so that the families found can be
counted: one pair for each planted document. Comparing pairs by whole signatures, which depends on
how much a corpus repeats itself, is timed apart, on fewer signatures from the page cache.

Needs 312 bytes of disk a signature in the folder for temporary files.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cost
import numpy as np
import record
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_prep import merge, minhash, near
from data_prep.dedup import Dedup
from data_prep.permutation import mix
from data_prep.prints import BAND
from data_prep.priority import Priority, mapped
from data_prep.ranges import SortedRows, save_sorted
from data_prep.units import Unit

TABLE = Dedup(near=True)
BANDS = TABLE.bands[0]
SHARED_BANDS = 11  # of a planted copy; 0.9^8 of 26
COPIES = 10  # one document of so many is a copy
DOCUMENT_BYTES = 5_000
UNIT_BYTES = 1 << 30
SIGNATURES, QUICK_SIGNATURES = 10**7, 200_000
COMPARED = 1 << 17  # signatures, and pairs of them, that are timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SIGNATURES:,} signatures")
    parser.add_argument("--signatures", type=int, default=SIGNATURES)
    parser.add_argument("--unit-bytes", type=int, default=UNIT_BYTES, help="of text in a unit")
    told = parser.parse_args()
    count = QUICK_SIGNATURES if told.quick else told.signatures
    with tempfile.TemporaryDirectory(prefix="textmill-scale-") as name:
        raw = measure(Path(name), count, told.unit_bytes // DOCUMENT_BYTES)
    figures: dict[str, float] = {"signatures": count}
    for row in raw:
        what = str(row["what"]).replace(" ", "_")
        rows = row.get("rows", 0)
        figures[f"{what}_cpu_s_per_million_rows"] = round(row["cpu_s"] / max(rows, 1) * 1e6, 4)
        figures |= {f"{what}_{key}": value for key, value in row.items() if key != "what"}
    path = record.write("scale_near_duplicates", figures, [cost.SHARED, *raw])
    table = Table("what", "million rows", "wall s", "CPU s", "CPU s a million", "peak MB",
                  title=f"{count:,} signatures")  # fmt: skip
    for row in raw:
        millions = row["rows"] / 1e6
        table.add_row(row["what"], f"{millions:.1f}", f"{row['wall_s']:.1f}",
                      f"{row['cpu_s']:.1f}", f"{row['cpu_s'] / millions:.3f}",
                      f"{row['peak_mb']:.0f}")  # fmt: skip
    Console().print(table)
    print(path)


def measure(folder: Path, count: int, unit_documents: int) -> list[dict[str, Any]]:
    """The cost of each part; rows are bands, or pairs where they are compared."""
    sizes = [unit_documents] * (count // unit_documents)
    if rest := count % unit_documents:
        sizes.append(rest)
    with cost.of("sort and write") as written:
        files = write(folder, sizes)
    num_bytes = sum(file.path.stat().st_size for file in files)
    with cost.of("partition and join") as joined:
        families, pairs, range_rows = partition(folder, files, sizes)
    with cost.of("compare pairs") as compared:
        alike = compare(folder, min(COMPARED, count))
    assert alike == min(COMPARED, count)
    planted = count // COPIES
    assert families == planted, f"{families} documents joined, {planted} planted"
    rows = count * BANDS
    return [
        written.row() | {"rows": rows, "units": len(files), "bytes": num_bytes},
        joined.row() | {"rows": rows, "pairs": pairs, "joined": families, "range_rows": range_rows},
        compared.row() | {"rows": alike},
    ]


def write(folder: Path, sizes: Sequence[int]) -> list[SortedRows]:
    """The band files of all units."""
    files = []
    first = 0
    for number, size in enumerate(sizes):
        rows = np.empty((size, BANDS), BAND)
        rows["hash"] = hashes(np.arange(first, first + size, dtype=np.uint64))
        rows["document"] = np.arange(size)[:, None]
        path = folder / f"{number:06d}.bands.bin"
        save_sorted(path, rows.reshape(-1))
        files.append(SortedRows(path, BAND))
        first += size
    return files


def hashes(documents: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Band hashes (n, BANDS) of documents."""
    bands = np.arange(BANDS, dtype=np.uint64)
    found = mix(documents[:, None] * np.uint64(BANDS) + bands + np.uint64(1))
    copies = np.flatnonzero(documents % COPIES == COPIES - 1)
    originals = mix(documents[copies]) % documents[copies]
    originals -= originals % COPIES == COPIES - 1
    inner = originals[:, None] * np.uint64(BANDS) + bands[:SHARED_BANDS] + np.uint64(1)
    found[copies, :SHARED_BANDS] = mix(inner)
    return found


def partition(
    folder: Path, files: Sequence[SortedRows], sizes: Sequence[int]
) -> tuple[int, int, int]:
    """Documents that are joined to another, pairs that share a band, and rows of a range."""
    units = [Unit("one", number, ()) for number in range(len(files))]
    priority = Priority(folder, units, sizes, {"one": 0})
    parents = mapped(folder / "parents.bin", np.dtype(np.int64), len(priority))
    for start in range(0, len(priority), near.SCAN_DOCUMENTS):
        end = min(start + near.SCAN_DOCUMENTS, len(priority))
        parents[start:end] = np.arange(start, end)
    range_rows = max(merge.RANGE_ROWS, merge.PIECE_ROWS * len(files))
    pairs = 0
    for documents, groups in near.candidates(priority, files, range_rows):
        is_first = np.ones(len(groups), bool)
        is_first[1:] = groups[1:] != groups[:-1]
        leaders = documents[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
        near.join(parents, documents[~is_first], leaders[~is_first])
        pairs += int((~is_first).sum())
    joined = sum(
        int(np.count_nonzero(parents[start : start + near.SCAN_DOCUMENTS]
                             != np.arange(start, min(start + near.SCAN_DOCUMENTS, len(parents)))))
        for start in range(0, len(parents), near.SCAN_DOCUMENTS)
    )  # fmt: skip
    return joined, pairs, range_rows


def compare(folder: Path, count: int) -> int:
    """How many of so many random pairs of signatures are alike: all, they are equal."""
    path = folder / "signatures.bin"
    one = np.random.default_rng(0).integers(0, minhash.EMPTY, TABLE.near_bins, dtype=np.uint16)
    with path.open("wb") as file:
        for start in range(0, count, 1 << 12):
            np.tile(one, (min(1 << 12, count - start), 1)).tofile(file)
    priority = Priority(folder, [Unit("one", 0, ())], [count], {"one": 0})
    signatures = near.Signatures(priority, [path], TABLE.near_bins)
    first, second = np.random.default_rng(1).integers(0, count, (2, count))
    return int(np.count_nonzero(signatures.alike(first, second, TABLE.near_threshold)))


if __name__ == "__main__":
    main()
