"""Files that a probe has written and must not leave, however it ends."""

from contextlib import suppress
from pathlib import Path
from threading import Thread

REMOVE_SECONDS = 5.0  # a file system that hangs must not keep the probe
paths: set[Path] = set()


def remove(path: Path) -> None:
    """Remove one, if it is there."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
    paths.discard(path)


def remove_all() -> None:
    """Remove those that are left; the probe calls it when its input has ended."""

    def work() -> None:
        for path in list(paths):
            remove(path)

    worker = Thread(target=work, daemon=True)
    worker.start()
    worker.join(REMOVE_SECONDS)
