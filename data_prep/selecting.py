"""Which encoded documents are in the corpus, and in which of its splits.

A document is in if it is no copy and has enough tokens. Its split is drawn by the hash of its text,
so copies can never stand on both sides. `select/<unit>.npy` says it for each encoded document:
0 out, 1 train, 2 valid.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import dedup, stored
from data_prep.encoding import encoded
from data_prep.packing import Packing
from data_prep.shards import Split
from data_prep.units import Unit
from data_prep.work import Work, save_array

CODES: dict[Split, int] = {"train": 1, "valid": 2}


def select(work: Work, units: Sequence[Unit], table: Packing) -> dict[str, dict[str, int]]:
    """Decide for all units; return per source how many documents are kept, how many too short."""
    done = work.journal("select")
    if done is not None:
        return done
    totals: dict[str, Counter[str]] = {unit.source: Counter() for unit in units}
    for unit in units:
        rows, lengths = encoded(work, unit.name, "rows"), encoded(work, unit.name, "lengths")
        keep = np.load(work.path(f"keep/{unit.name}", ".npy"))[rows]
        is_short = keep & (lengths < table.drop_shorter_than)
        hashes = stored.unit_array(work, unit.name, "hashes")
        valid = dedup.is_valid(hashes, table.valid_share)[rows]
        codes = np.where(valid, np.uint8(CODES["valid"]), np.uint8(CODES["train"]))
        codes[~keep | is_short] = 0
        save_array(work.path(f"select/{unit.name}", ".npy"), codes)
        totals[unit.source].update(
            kept=int(np.count_nonzero(codes)), short=int(np.count_nonzero(is_short))
        )
    return work.finish("select", {name: dict(counts) for name, counts in totals.items()})


def in_split(work: Work, unit: str, split: Split) -> NDArray[np.bool_]:
    """(n,) which encoded documents of a unit are in a split."""
    codes: NDArray[Any] = np.load(work.path(f"select/{unit}", ".npy"))
    return np.asarray(codes == CODES[split])


def selected(work: Work, unit: str) -> NDArray[np.bool_]:
    """(n,) which encoded documents of a unit are in the corpus."""
    return np.asarray(np.load(work.path(f"select/{unit}", ".npy")) > 0)
