"""Another sequence length, or strategy, from existing shards, without the raw text."""

from pathlib import Path
from typing import Any

from data_prep.packing import Packing


def packing_of(folder: Path) -> Packing:
    """The table that the shards in a data folder were packed with."""
    raise NotImplementedError


def repack(folder: Path, output: Path, packing: Packing, workers: int) -> dict[str, Any]:
    """Pack the documents of the corpus in `folder` anew into the data folder `output`; return its
    manifest.

    Only `sequence_length` and `strategy` may differ from `packing_of(folder)`.
    """
    raise NotImplementedError
