"""No lock of an ended build is left: every later start on its cache waits for it, for ever and
silently.

torch makes `CACHE/EXTENSION/lock` and keeps it open while it builds; a process that is killed
leaves it. A lock that no process has open, on any host, is nobody's.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

NAME = "lock"
VARIABLE = "TORCH_EXTENSIONS_DIR"


@dataclass(frozen=True)
class Seen:
    locks: dict[str, float]  # age in seconds
    held: list[str]  # those that a process of this host has open


def look(asked: Asked) -> Seen:
    found = [lock for cache in caches(asked) for lock in locks_in(cache)]
    ages = {}
    for lock in found:
        with suppress(OSError):  # released meanwhile
            ages[str(lock)] = time.time() - lock.stat().st_mtime
    return Seen(ages, sorted(held(set(ages)) if ages else ()))


def caches(asked: Asked) -> Iterator[Path]:
    """Where ranks build: torch's default, what the environment says, and the run's own."""
    if os.environ.get(VARIABLE):
        yield Path(os.environ[VARIABLE]).resolve()
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        yield cache / "torch_extensions"
    if asked.plan.job is not None:
        yield Path(asked.plan.job.output).resolve() / "cache" / "torch_extensions"


def locks_in(cache: Path) -> Iterator[Path]:
    """torch's default cache has one more level, for versions."""
    for pattern in (f"*/{NAME}", f"*/*/{NAME}"):
        yield from (path for path in cache.glob(pattern) if path.is_file())


def held(locks: set[str]) -> Iterator[str]:
    """Those that a process here has open."""
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            for entry in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    target = os.readlink(entry)
                    if target in locks:
                        yield target


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    held_somewhere = {lock for found in seen.values() for lock in found.held}
    told: set[str] = set()
    for host, found in seen.items():
        for lock, age in found.locks.items():
            if lock in held_somewhere or lock in told:
                continue
            told.add(lock)
            yield fault(
                host,
                f"{lock} is left from a build that was killed {age / 60:.0f} min ago; every start "
                "will wait for it",
                f"`rm {lock}` on it",
            )
