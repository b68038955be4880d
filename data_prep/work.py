"""The work folder: what is already done of an interrupted run.

`output/data.work` belongs to one fingerprint of inputs; with other inputs it is emptied. Every unit
of every pass writes its files there and last, atomically, a journal `<pass>/<unit>.json`: a unit
with a journal is never done again. Nothing in it depends on which worker did what.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from runtime import provenance

INPUTS = "inputs.json"


class Work:
    """The folder and its journals. Holds no open file, so it can be sent to workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, inputs: str) -> None:
        """Go on with what was done for the same inputs; else begin anew."""
        marker = self.folder / INPUTS
        if not (marker.is_file() and provenance.read_json(marker) == {"inputs": inputs}):
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            provenance.write_json(marker, {"inputs": inputs})

    def path(self, name: str, suffix: str) -> Path:
        """A file of a unit; its folder is made."""
        path = self.folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def journal(self, name: str) -> dict[str, Any] | None:
        """What a finished unit reported, or None."""
        path = self.folder / f"{name}.json"
        return cast(dict[str, Any], provenance.read_json(path)) if path.is_file() else None

    def finish(self, name: str, report: dict[str, Any]) -> dict[str, Any]:
        """Mark a unit as done; its files must be on disk."""
        provenance.write_json(self.path(name, ".json"), report)
        return report

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file to write, which takes the name `path` when the block ends without error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an intermediate .npy file, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
