"""The work folder: what is already done of an interrupted run.

`output/data.work` belongs to one fingerprint of inputs; with other inputs it is emptied. Every unit
of every pass writes its files there and last, atomically, a journal `<pass>/<unit>.json`: a unit
with a journal is never done again. Nothing in it depends on which worker did what.
"""

import fcntl
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from data_prep.executors import arrays
from runtime import provenance
from runtime.errors import DataError
from runtime.provenance import atomic

INPUTS = "inputs.json"
LOCK_SECONDS = 2.0


class Work:
    """The folder and its journals. Holds no open file, so it can be sent to workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, inputs: str) -> IO[bytes]:
        """Go on with what was done for the same inputs; else begin anew.

        The work belongs to this run until the returned file is closed or the process ends. Raises
        DataError if another run has it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.locked()
        arrays.end_orphans(self.folder)  # they could write into the work for other inputs
        marker = self.folder / INPUTS
        if not (marker.is_file() and provenance.read_json(marker) == {"inputs": inputs}):
            self.remove()
            self.folder.mkdir(parents=True)
            provenance.write_json(marker, {"inputs": inputs})
        return lock

    def locked(self) -> IO[bytes]:
        """The lock of this folder. Raises DataError if another run has it.

        Workers of a killed run may hold it for a moment longer than their main process.
        """
        lock = self.folder.with_name(f".{self.folder.name}.lock").open("wb")
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.close()
                    raise DataError(
                        f"another run is preparing {self.folder}; wait for it, or give this one "
                        "another `output`"
                    ) from None
                time.sleep(0.05)

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

    def forget(self) -> None:
        """From here on the folder is nobody's work: what is half removed is not gone on with."""
        (self.folder / INPUTS).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder. The caller holds its lock."""
        if self.folder.exists():
            self.forget()
            shutil.rmtree(self.folder)

    def remove_left(self) -> None:
        """Remove what a run has left that was killed at its very end, unless one is at work."""
        if self.folder.exists():
            with suppress(DataError), self.locked():
                self.remove()


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an intermediate .npy file, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
