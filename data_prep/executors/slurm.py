"""Runs each pass as one job array of a SLURM cluster that shares the file system.

This process, the head, submits the array, waits for what its tasks leave (task.py) and hands out
anew the jobs of tasks that died. It cancels its array when it ends in any way it can notice; the
array of a head that was killed is cancelled by the next run on the same work folder.
"""

import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from data_prep import executor
from data_prep.executors import arrays
from data_prep.executors.outcome import result_of
from data_prep.executors.task import CLAIMS, ENDED, JOBS
from data_prep.work import Work
from runtime.config import Launch, Slurm
from runtime.errors import DataError, OutOfMemory

J = TypeVar("J")
R = TypeVar("R")
LONGEST_PAUSE = 2.0  # seconds between looks at the spool folder
LONGEST_GAP = 30.0  # seconds between questions to SLURM, which serves many users
LATE_FILES_SECONDS = 3.0  # a network file system may show the last files late
MAX_DEATHS = 2  # tasks that may die of one job
LOG_CHARACTERS = 2000


@contextmanager
def opened(launch: Launch, work: Work) -> Iterator[executor.Run]:
    """A queue for passes; what is still in it at the end of the block is cancelled."""
    count = min(executor.num_workers(launch), arrays.max_count())
    spool = work.folder / arrays.SPOOL
    spool.mkdir()
    with ended_by_sigterm():
        try:
            yield Queue(launch.slurm, count, arrays.name_of(work.folder), spool).run
        finally:
            arrays.end_orphans(work.folder)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that arrays are cancelled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Queue:
    """How passes are submitted."""

    table: Slurm
    count: int  # of tasks at once
    name: str
    spool: Path

    def run(
        self, function: Callable[[J], R], jobs: Sequence[J], names: Sequence[str]
    ) -> Iterator[tuple[int, R]]:
        """See `executor.Run`. Raises OutOfMemory or DataError naming the job that tasks die of."""
        # Never a name twice: a task of the pass before may still be looking for jobs.
        spool = Path(tempfile.mkdtemp(dir=self.spool))
        for folder in (CLAIMS, ENDED):
            (spool / folder).mkdir()
        (spool / JOBS).write_bytes(pickle.dumps((function, list(jobs), list(names))))
        missing = set(range(len(jobs)))
        deaths: Counter[int] = Counter()
        while missing:
            job = self.submit(spool, min(self.count, len(missing)))
            for number, answer in collect(spool, job, missing):
                yield number, result_of(answer, names[number])
            if missing:
                release(spool, job, missing, deaths, names)
            arrays.dismiss(job)  # tasks still queued have nothing left to do
        shutil.rmtree(spool, ignore_errors=True)  # a task may be looking for jobs

    def submit(self, spool: Path, count: int) -> str:
        path = spool.resolve()
        command = [sys.executable, "-m", "data_prep.executors.task", str(path)]
        return arrays.submit(self.table, self.name, count, command, path / "task-%a.log")


def collect(spool: Path, job: str, missing: set[int]) -> Iterator[tuple[int, Any]]:
    """Yield what the tasks of an array leave, until nothing is missing or the array is over."""
    pause, gap, ask_at = 0.05, 2.0, time.monotonic() + 2.0
    over_since: float | None = None
    while missing:
        for number in ended(spool, missing):
            path = spool / ENDED / str(number)
            missing.discard(number)
            yield number, pickle.loads(path.read_bytes())
            path.unlink()
            pause = 0.05
        now = time.monotonic()
        if over_since is not None and now - over_since > LATE_FILES_SECONDS:
            return
        if over_since is None and now >= ask_at:
            over_since = now if arrays.is_over(arrays.states(job)) else None
            gap = min(1.5 * gap, LONGEST_GAP)
            ask_at = now + gap
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)


def ended(spool: Path, missing: set[int]) -> list[int]:
    """The jobs that are waited for and have ended, in order."""
    found = (int(name) for name in os.listdir(spool / ENDED) if name.isdigit())
    return sorted(missing.intersection(found))


def release(
    spool: Path, job: str, missing: set[int], deaths: Counter[int], names: Sequence[str]
) -> None:
    """After the array is over: give back the jobs its tasks have died of.

    Raises DataError if the array was cancelled or never ran, or if a job has ended too many tasks.
    """
    states = arrays.states(job) or {}
    claimed = sorted(n for n in missing if (spool / CLAIMS / str(n)).is_symlink())
    shown = ", ".join(sorted({state.lower() for state in states.values()})) or "state unknown"
    place = f"SLURM job {job} ({shown}) has left {len(missing)} units undone"
    if "CANCELLED" in states.values() or not claimed:
        raise DataError(f"{place}; run the same command again: what is done stays done{log(spool)}")
    deaths.update(claimed)
    for number in claimed:
        if deaths[number] > MAX_DEATHS and "OUT_OF_MEMORY" in states.values():
            raise OutOfMemory(f"{place}: raise launch.slurm.memory_mb{log(spool)}")
        if deaths[number] > MAX_DEATHS:
            raise DataError(f"{place}: {deaths[number]} tasks died at {names[number]}{log(spool)}")
        (spool / CLAIMS / str(number)).unlink()


def log(spool: Path) -> str:
    """The end of the newest log of a task, as a part of a message."""
    logs = sorted(spool.glob("task-*.log"), key=lambda path: path.stat().st_mtime)
    text = logs[-1].read_text(errors="replace").strip() if logs else ""
    return f"; the end of the last log is:\n{text[-LOG_CHARACTERS:]}" if text else ""
