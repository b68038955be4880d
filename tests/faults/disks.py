"""Real file systems for tests: of any size, growing, read-only. They need root and `mount`."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A file system of its own, of a stated size."""

    folder: Path

    def resize(self, kib: int) -> None:
        """Make it larger or smaller, of a page at least (0 is no limit); it keeps what it
        holds."""
        options = f"remount,size={max(kib, 4)}k"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)

    def leave(self, kib: int) -> None:
        """Resize it so that so many KiB are free."""
        usage = shutil.disk_usage(self.folder)
        self.resize(-(-usage.used // 1024) + kib)

    def make_read_only(self) -> None:
        """Refuse every write from now on, of root as well."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)

    def fill(self, name: str = "filler") -> Path:
        """Write until not one more byte fits; returns the file to delete."""
        path = self.folder / name
        with path.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        return path


@contextmanager
def mounted(folder: Path, kib: int) -> Iterator[Disk]:
    """A tmpfs of so many KiB on a folder, unmounted at the end of the block; skips without root."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "textmill-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("a file system of its own needs root and mount")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
