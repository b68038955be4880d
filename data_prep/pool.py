"""A pool of worker processes that names the job a worker died of.

Jobs are independent and each leaves its result on disk, so the order in which they end changes
nothing. Workers are spawned (no forked locks, no copied memory), end by themselves when the main
process is gone, and import what the job's function needs and no more. With one worker the jobs run
in the main process.
"""

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from runtime.errors import DataError, OutOfMemory

J = TypeVar("J")
R = TypeVar("R")


@dataclass
class Worker:
    """A process and the job it has."""

    process: BaseProcess
    pipe: "connection.Connection[Any, Any]"
    job: int | None = None


@dataclass(frozen=True)
class Failure:
    """An exception on its way from a worker to the main process."""

    error: BaseException
    trace: str


def run(
    function: Callable[[J], R], jobs: Sequence[J], names: Sequence[str], num_workers: int
) -> Iterator[tuple[int, R]]:
    """Yield (place of the job, result) as jobs end. `function` and `jobs` must pickle.

    The first exception of a job is raised here, after the other workers have been ended.
    """
    if num_workers == 1 or len(jobs) <= 1:
        for number, job in enumerate(jobs):
            yield number, function(job)
        return
    context = get_context("spawn")
    workers: list[Worker] = []
    try:
        for _ in range(min(num_workers, len(jobs))):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            workers.append(Worker(process, ours))
        yield from Dispatch(function, jobs, names, workers).results()
    finally:
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            if worker.job is not None:
                worker.process.terminate()
            worker.process.join()


class Dispatch(Generic[J, R]):
    """Hands out jobs in order, one to each idle worker."""

    def __init__(
        self,
        function: Callable[[J], R],
        jobs: Sequence[J],
        names: Sequence[str],
        workers: list[Worker],
    ) -> None:
        self.function, self.jobs, self.names, self.workers = function, jobs, names, workers
        self.next = 0

    def results(self) -> Iterator[tuple[int, R]]:
        for worker in self.workers:
            self.give(worker)
        while busy := {worker.pipe: worker for worker in self.workers if worker.job is not None}:
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                number, result = self.take(worker)
                self.give(worker)
                yield number, result

    def give(self, worker: Worker) -> None:
        worker.job = self.next if self.next < len(self.jobs) else None
        if worker.job is not None:
            self.next += 1
            try:
                worker.pipe.send((self.function, self.jobs[worker.job]))
            except (BrokenPipeError, ConnectionResetError):
                raise self.death(worker, worker.job) from None

    def take(self, worker: Worker) -> tuple[int, R]:
        number = worker.job
        assert number is not None
        try:
            result = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self.death(worker, number) from None
        worker.job = None
        if isinstance(result, Failure):
            result.error.add_note(f"in a worker, at {self.names[number]}:\n{result.trace}")
            raise result.error
        return number, result

    def death(self, worker: Worker, number: int) -> Exception:
        """What to tell the user about a worker that ended without an answer."""
        worker.process.join()
        code = worker.process.exitcode
        place = f"a worker died at {self.names[number]}"
        if code == -signal.SIGKILL:
            return OutOfMemory(
                f"{place}: killed (signal 9), most often by the system for want of memory; lower "
                "launch.workers or the sources' unit_bytes, then run the same command again: what "
                "is done stays done"
            )
        return DataError(
            f"{place} (exit code {code}); run the same command again: what is done stays done. If "
            "it dies there every time, that piece of input is at fault"
        )


def serve(pipe: "connection.Connection[Any, Any]") -> None:
    """The life of a worker: take a job, do it, answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        try:
            function, job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(job)
        except Exception as error:
            answer = Failure(portable(error), traceback.format_exc())
        pipe.send(answer)


def end_with_parent() -> None:
    """End this worker when the main process is gone, even killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def portable(error: Exception) -> Exception:
    """The exception itself if it survives pickling."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # any class may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
