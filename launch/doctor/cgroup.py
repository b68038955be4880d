"""What a control group allows its processes, which is often less than the machine has.

Reads version 1 and version 2. A limit holds for everything below it, so the smallest one on the way
from the process to the root counts.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60  # version 1 writes a number near 2^63 where there is none


def cores() -> float | None:
    """CPUs by quota; None if there is none."""
    found = [share for folder in folders("cpu") if (share := quota(folder)) is not None]
    return min(found, default=None)


def quota(folder: Path) -> float | None:
    """Of one group."""
    with suppress(OSError, ValueError):
        allowed, period = (folder / "cpu.max").read_text().split()
        return None if allowed == "max" else int(allowed) / int(period)
    with suppress(OSError, ValueError):
        allowed = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
        return int(allowed) / int(period) if int(allowed) > 0 else None
    return None


def free_memory() -> int | None:
    """Bytes that may still be taken, what the kernel can drop included; None without a limit."""
    found = [left for folder in folders("memory") if (left := memory_left(folder)) is not None]
    return min(found, default=None)


def memory_left(folder: Path) -> int | None:
    """Of one group."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            allowed = int((folder / limit).read_text().strip().replace("max", str(NO_LIMIT)))
            if allowed >= NO_LIMIT:
                return None
            taken = int((folder / usage).read_text()) - droppable(folder)
            return max(0, allowed - taken)
    return None


def droppable(folder: Path) -> int:
    """Bytes of files in memory that nobody has used lately."""
    with suppress(OSError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0


def folders(controller: str) -> Iterator[Path]:
    """The groups of this process that a controller knows, from its own to the root."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            names = controllers.split(",")
            if controllers and controller not in names:
                continue
            top = next(
                (ROOT / one for one in (controllers, controller) if one and (ROOT / one).is_dir()),
                ROOT,
            )
            own = top / name.lstrip("/")
            # In a container the name may be that of the machine outside.
            path = own if own.is_dir() else top
            while path.is_relative_to(top):
                yield path
                path = path.parent


def whole_cores(available: float) -> int:
    return max(1, math.floor(available + 0.01))
