"""Who drives the trials of a study: several processes, on several machines, may share one.

Each driver has a file in `drivers/` of the study's folder, whose time it renews. One on this
machine lives while its process does; one on another machine lives while its file is renewed (times
are compared with that of a file written now, so only the file server's clock counts). Short
decisions that two drivers must not take at once are taken under a lock, which a killed driver does
not keep. Imports neither torch nor optuna.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

RENEW_SECONDS = 20.0
DEAD_SECONDS = 300.0  # without a renewal


class Driver:
    """This process as a driver of the study in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        created = int(psutil.Process().create_time())
        self.name = f"{socket.gethostname()}:{os.getpid()}:{created}"
        self.renewed = 0.0
        self.renew()

    def renew(self) -> None:
        """Say that this driver lives; call it often."""
        if time.monotonic() - self.renewed > RENEW_SECONDS or self.renewed == 0.0:
            file = self.file_of(self.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.name)
            self.renewed = time.monotonic()

    def file_of(self, name: str) -> Path:
        return self.folder / "drivers" / name.replace(":", "-")

    def lives(self, name: str | None) -> bool:
        """True if the driver of this name still looks after its trials."""
        if name is None:
            return False
        host, pid, created = name.rsplit(":", 2)
        if host == socket.gethostname():
            try:
                return int(psutil.Process(int(pid)).create_time()) == int(created)
            except psutil.Error:
                return False
        file = self.file_of(name)
        self.renewed = 0.0
        self.renew()
        now = self.file_of(self.name).stat().st_mtime
        return file.is_file() and now - file.stat().st_mtime < DEAD_SECONDS

    def leave(self) -> None:
        """Say that this driver has ended."""
        self.file_of(self.name).unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one inside the block, among processes that name this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
