"""A pool of worker processes on this machine that names the job a worker died of.

The workers are started once and serve all passes. They end by themselves when the main process is
gone, even killed. With one worker the jobs run in the main process.

In our own command the workers are forked, because importing everything anew costs each of them a
third of a CPU second; there the pool is opened before anything has started a thread. In any other
program (a notebook, a test) threads and their locks may exist, and workers are spawned.
"""

import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from data_prep import executor
from data_prep.executors.outcome import attempt, result_of
from data_prep.work import Work
from runtime.config import Launch
from runtime.errors import DataError, OutOfMemory

J = TypeVar("J")
R = TypeVar("R")
COMMAND = "data_prep.__main__"
PR_SET_PDEATHSIG = 1  # prctl(2): the signal a process gets when its parent ends


@dataclass
class Worker:
    """A process and the job it has."""

    process: BaseProcess
    pipe: "connection.Connection[Any, Any]"
    job: int | None = None


@contextmanager
def opened(launch: Launch, work: Work) -> Iterator[executor.Run]:
    """Workers that wait for passes; those still busy at the end of the block are terminated."""
    count = executor.num_workers(launch)
    workers: list[Worker] = []
    try:
        if count > 1:
            start(workers, count)
        yield Pool(workers).run
    finally:
        for worker in workers:
            dismiss(worker)
        for worker in workers:
            worker.process.join()


def start(workers: list[Worker], count: int) -> None:
    """Start workers one by one, so that whoever fails half way can end those before."""
    context = get_context("fork") if can_fork() else get_context("spawn")
    gc.collect()
    give_back_memory()
    gc.freeze()  # so that collections in forked workers leave shared pages alone
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        workers.append(Worker(process, ours))
    gc.unfreeze()


def can_fork() -> bool:
    """Is this process our own command on Linux, with no other thread whose locks a fork takes?"""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    is_ours = spec is not None and spec.name == COMMAND
    return is_ours and sys.platform == "linux" and threading.active_count() == 1


def dismiss(worker: Worker) -> None:
    """Tell a worker to end: a busy one by a signal."""
    if worker.job is not None:
        worker.process.terminate()
    else:
        with suppress(OSError):  # it is gone
            worker.pipe.send(None)
    worker.pipe.close()


class Pool:
    """Hands out jobs in order, one to each idle worker."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers

    def run(
        self, function: Callable[[J], R], jobs: Sequence[J], names: Sequence[str]
    ) -> Iterator[tuple[int, R]]:
        """See `executor.Run`. Raises OutOfMemory or DataError naming the job a worker died of."""
        if not self.workers:
            yield from ((number, function(job)) for number, job in enumerate(jobs))
            return
        todo = iter(range(len(jobs)))
        for worker in self.workers:
            give(worker, function, jobs, names, next(todo, None))
        while busy := [worker for worker in self.workers if worker.job is not None]:
            ready = connection.wait([worker.pipe for worker in busy])
            for worker in busy:
                if worker.pipe in ready:
                    number, result = take(worker, names)
                    give(worker, function, jobs, names, next(todo, None))
                    yield number, result


def give(
    worker: Worker,
    function: Callable[[J], R],
    jobs: Sequence[J],
    names: Sequence[str],
    number: int | None,
) -> None:
    """Send a worker its next job, if there is one."""
    worker.job = number
    if number is not None:
        try:
            worker.pipe.send((function, jobs[number]))
        except (BrokenPipeError, ConnectionResetError):
            raise death(worker, names[number]) from None


def take(worker: Worker, names: Sequence[str]) -> tuple[int, Any]:
    """The job a worker has ended and its result. Raises what the job raised."""
    number = worker.job
    assert number is not None
    try:
        answer = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        raise death(worker, names[number]) from None
    worker.job = None
    return number, result_of(answer, names[number])


def death(worker: Worker, name: str) -> Exception:
    """What to tell the user about a worker that ended without an answer."""
    worker.process.join()
    code = worker.process.exitcode
    if code == -signal.SIGKILL:
        return OutOfMemory(
            f"a worker died at {name}: killed (signal 9), most often by the system for want of "
            "memory; lower launch.workers or the sources' unit_bytes, then run the same command "
            "again: what is done stays done"
        )
    return DataError(
        f"a worker died at {name} (exit code {code}); run the same command again: what is done "
        "stays done. If it dies there every time, that piece of input is at fault"
    )


def serve(pipe: "connection.Connection[Any, Any]", parent: int) -> None:
    """The life of a worker: take a job, do it, answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(parent)
    while True:
        try:
            told = pipe.recv()
        except (EOFError, OSError):
            return
        if told is None:
            return
        pipe.send(attempt(*told))
        give_back_memory()


def end_with(parent: int) -> None:
    """End this worker when the main process is gone.

    On Linux the kernel does it at once, also in the middle of a long call; elsewhere a thread does.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)
    else:
        threading.Thread(target=wait_for_parent, daemon=True).start()


def wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def give_back_memory() -> None:
    """Return what the last job has freed to the system, so that idle workers stay small."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)
