"""What a process that seems to stand still really does, as Linux tells it.

A rank on a machine that is busy or swaps must not be taken for one that hangs. Two looks at /proc
some time apart tell whether threads wanted the processor and did not get it, whether data move, a
thread waits for a disk, or the process (with its children: compilers) computes. Elsewhere than on
Linux nothing is known of any process.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
MOVED_BYTES = 1 << 16  # a look apart: what logging alone would not read or write
WORKING_SHARE = 0.1  # of the time on a processor, from which a process is at work
STOPPED = ("T", "t")  # states of a thread: by a signal, by a debugger
# Fields of /proc/PID/stat after the name, counted from 0: see proc_pid_stat(5).
STATE, MAJOR_FAULTS, USER, SYSTEM, CHILDREN_USER, CHILDREN_SYSTEM, BEGAN = 0, 9, 11, 12, 13, 14, 19


@dataclass(frozen=True)
class Look:
    """One look at a process; times in seconds of processor."""

    state: str  # of its main thread
    busy: dict[int, tuple[str, float]]  # thread -> state, time so far
    cpu: float  # of all threads and children
    moved: int  # bytes read and written so far
    faults: int  # pages fetched from a disk so far


@dataclass(frozen=True)
class Conduct:
    """What became of a process between two looks."""

    is_known: bool = False
    is_stopped: bool = False  # by a signal or a debugger
    is_moving: bool = False  # data are read or written, or memory comes back from swap
    waits_for_disk: bool = False
    is_working: bool = False
    starved_seconds: float = 0.0  # a thread wanted a processor and got none


def stat_fields(path: Path) -> list[str]:
    """The fields of a `stat` file after the name. Raises OSError if there is no such process."""
    return (path / "stat").read_text(errors="replace").rpartition(")")[2].split()


def began(pid: int) -> int:
    """When a process began, in ticks since the machine did: with the pid that tells processes
    apart. 0: there is no such process any more."""
    try:
        found = stat_fields(PROC / str(pid))
    except OSError:
        return 0
    return 0 if found[STATE] in "ZX" else int(found[BEGAN])


def look(pid: int) -> Look | None:
    """Look at a process, but not at the thread which does the looking; None: nothing is known."""
    folder = PROC / str(pid)
    try:
        main = stat_fields(folder)
        threads = dict(thread_fields(folder))
    except OSError:
        return None
    busy = {
        number: (fields[STATE], seconds(fields, USER, SYSTEM))
        for number, fields in threads.items()
        if number != threading.get_native_id()
    }
    return Look(
        main[STATE],
        busy,
        sum(with_children(fields) for fields in [main, *children(pid)]),
        moved_bytes(folder),
        int(main[MAJOR_FAULTS]),
    )


def thread_fields(folder: Path) -> Iterator[tuple[int, list[str]]]:
    for thread in (folder / "task").iterdir():
        try:
            yield int(thread.name), stat_fields(thread)
        except OSError:  # it ended meanwhile
            continue


def children(pid: int) -> Iterator[list[str]]:
    """The `stat` fields of the children of a process."""
    try:
        found = psutil.Process(pid).children()
    except psutil.Error:
        return
    for child in found:
        try:
            yield stat_fields(PROC / str(child.pid))
        except OSError:
            continue


def with_children(fields: list[str]) -> float:
    return seconds(fields, USER, SYSTEM, CHILDREN_USER, CHILDREN_SYSTEM)


def seconds(fields: list[str], *names: int) -> float:
    return sum(int(fields[name]) for name in names) / TICKS_A_SECOND


def moved_bytes(folder: Path) -> int:
    """Bytes that a process has read and written; 0 if that is kept secret."""
    try:
        lines = (folder / "io").read_text().splitlines()
    except OSError:
        return 0
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]) + int(counts["wchar"])


def between(before: Look | None, after: Look | None, elapsed: float) -> Conduct:
    """What a process did in the `elapsed` seconds between two looks."""
    if after is None:
        return Conduct()
    if before is None:
        return Conduct(is_stopped=after.state in STOPPED)
    starved = [
        elapsed - (time - before.busy[thread][1])
        for thread, (state, time) in after.busy.items()
        if state == "R" and before.busy.get(thread, ("", 0.0))[0] == "R"
    ]
    return Conduct(
        is_known=True,
        is_stopped=after.state in STOPPED,
        is_moving=after.moved - before.moved > MOVED_BYTES or after.faults > before.faults,
        waits_for_disk=any(state == "D" for state, _ in after.busy.values()),
        is_working=after.cpu - before.cpu > WORKING_SHARE * elapsed,
        starved_seconds=max(0.0, *starved) if starved else 0.0,
    )
