"""Runs the units as Ray tasks, on a running Ray cluster or on one of our own on this machine.

The machines of a cluster must share the file system with this process and have the same code.
A cluster that was started here ends with the block; any other is only left. Ray runs a job again
when its worker or its machine was lost; an exception of the job itself is raised here.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray

from data_prep import executor
from data_prep.executors.outcome import attempt, result_of
from data_prep.work import Work
from runtime.config import Launch
from runtime.errors import DataError, OutOfMemory

J = TypeVar("J")
R = TypeVar("R")
MAX_RETRIES = 3  # of a job whose worker was lost
STORE_BYTES = 80_000_000  # of a cluster of our own: near Ray's smallest, for jobs and journals


@contextmanager
def opened(launch: Launch, work: Work) -> Iterator[executor.Run]:
    """A connection to Ray, closed with the block if it was opened here."""
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(launch)
    try:
        yield Tasks(launch.workers or num_cpus()).run
    finally:
        if is_ours:
            ray.shutdown()


def connect(launch: Launch) -> None:
    """Join the cluster of the recipe or start one. Raises DataError if it cannot be reached."""
    # Ray reads these once, when it starts: no usage report leaves the machine unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own: dict[str, Any] = {
        "num_cpus": executor.num_workers(launch),
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
    }
    address = launch.ray_address or "local"
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **(own if address == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DataError(
            f"no Ray cluster answers at launch.ray_address = {address!r} ({error}); start it "
            "(`ray start --head`), or leave ray_address out for one on this machine"
        ) from None


def num_cpus() -> int:
    """CPUs of the whole cluster."""
    found: dict[str, float] = ray.cluster_resources()
    return max(1, int(found.get("CPU", 1)))


class Tasks:
    """Hands out jobs in order, as many at once as there are workers."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.remote: Any = ray.remote(attempt).options(num_cpus=1, max_retries=MAX_RETRIES)

    def run(
        self, function: Callable[[J], R], jobs: Sequence[J], names: Sequence[str]
    ) -> Iterator[tuple[int, R]]:
        """See `executor.Run`. Raises OutOfMemory or DataError for a job whose workers are lost."""
        todo = iter(range(len(jobs)))
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < self.count and (number := next(todo, None)) is not None:
                    running[self.remote.remote(function, jobs[number])] = number
                if not running:
                    return
                (ready, *_), _ = ray.wait(list(running), num_returns=1)
                number = running.pop(ready)
                yield number, result_of(answer_of(ready, names[number]), names[number])
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def answer_of(reference: Any, name: str) -> Any:
    """What a task has answered. Raises OutOfMemory or DataError when nobody could answer."""
    try:
        return ray.get(reference)
    except ray.exceptions.OutOfMemoryError as error:
        raise OutOfMemory(
            f"Ray has ended the worker at {name} for want of memory ({error}); lower "
            "launch.workers or the sources' unit_bytes, then run the same command again"
        ) from None
    except ray.exceptions.RayError as error:
        raise DataError(
            f"Ray has lost the worker at {name} {MAX_RETRIES + 1} times ({error}); run the same "
            "command again: what is done stays done. If it dies there every time, that piece of "
            "input is at fault"
        ) from None
