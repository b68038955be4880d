"""Nothing of ended runs is left: ranks without a launcher, shared memory without a process."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from launch.doctor.finding import Finding, fault, warning
from launch.doctor.plan import Asked, Plan
from runtime import stages
from runtime.watchdog import launcher

MEMORY = Path("/dev/shm")
SEGMENTS = ("torch_", "nccl-", "psm_")  # of torch, NCCL and Python's multiprocessing
INIT = 1
SHOWN = 4


@dataclass(frozen=True)
class Seen:
    orphans: dict[str, str]  # process id: command
    segments: dict[str, int]  # path: bytes


def look(asked: Asked) -> Seen:
    orphans = {
        str(process.pid): command_of(process)
        for process in psutil.process_iter()
        if is_orphan(process)
    }
    found = {}
    for path in MEMORY.glob("*"):
        with suppress(OSError):
            state = path.stat()
            if path.name.startswith(SEGMENTS) and state.st_uid == os.getuid():
                found[str(path)] = state.st_size
    used = in_use(set(found)) if found else set()
    return Seen(orphans, {path: size for path, size in found.items() if path not in used})


def command_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())[:100]
    return ""


def is_orphan(process: psutil.Process) -> bool:
    """True for a rank whose launcher is gone; one started by hand may outlive its terminal."""
    with suppress(psutil.Error):
        line = process.cmdline()
        modules = [after for word, after in pairwise(line) if word == "-m"]
        return (
            any(module in stages.STAGES for module in modules)
            and process.ppid() == INIT
            and process.status() != psutil.STATUS_ZOMBIE
            and launcher.is_launched(process.environ())
        )
    return False


def in_use(paths: set[str]) -> set[str]:
    """Those that a process here has open or mapped."""
    found = set()
    for process in psutil.process_iter():
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError):
            for line in (folder / "maps").read_text(errors="replace").splitlines():
                if line[-1:] != "]" and (path := line.partition("/")[2]):
                    found.add(f"/{path}")
        with suppress(OSError):
            for entry in (folder / "fd").iterdir():
                with suppress(OSError):
                    found.add(os.readlink(entry))
    return found & paths


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        for pid, command in found.orphans.items():
            yield fault(
                host,
                f"process {pid} is a rank whose launcher is gone: {command}",
                f"`kill {pid}` on it, which lets it save; `kill -9 {pid}` if it does not end",
            )
        if found.segments:
            names = list(found.segments)
            rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield warning(
                host,
                f"{len(names)} segments of shared memory of ended processes hold "
                f"{sum(found.segments.values()) / 1e6:.1f} MB",
                f"`rm {' '.join(names[:SHOWN])}`{rest} on it",
            )
