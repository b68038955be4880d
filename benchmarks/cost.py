"""What a piece of work costs this process: wall and CPU seconds, resident memory, open files.

CPU seconds are user and system together, of this process and its threads. Where a machine is shared
wall seconds are those of a busy one; CPU seconds stay close to what a quiet one would need.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
SHARED = "measured on a shared, busy machine"  # for the notes of a result


@dataclass
class Cost:
    """Filled in when the work is done."""

    what: str
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0  # resident at most while it ran, shared pages of mapped files included
    grown_mb: float = 0.0  # more of its own than before
    open_files: int = 0

    def row(self) -> dict[str, float | str]:
        """For a result file, rounded."""
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


@contextmanager
def of(what: str) -> Iterator[Cost]:
    """The cost of what is done inside."""
    found = Cost(what)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = megabytes("RssAnon")
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found.wall_s, found.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    found.peak_mb = megabytes("VmHWM")
    found.grown_mb = megabytes("RssAnon") - before
    found.open_files = len(os.listdir("/proc/self/fd"))


def megabytes(key: str) -> float:
    """A size that the kernel tells of this process."""
    match = re.search(rf"^{key}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert match is not None
    return int(match.group(1)) / 1e3
