"""Runs the units of a pass by the executor that the recipe names.

    with executor.opened(recipe.launch, work) as run:
        for place, result in run(function, jobs, names):
            ...

`function` is a function of a module, `jobs` and results pickle, and every job leaves its result on
disk: so the order in which jobs end changes nothing, a job may run twice, and another executor may
go on where one stopped. The first exception of a job is raised where `run` is iterated.

Open it before any thread is started, and once for all passes: local workers serve all of them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol, TypeVar, cast

from data_prep.work import Work
from runtime.config import Launch

J = TypeVar("J")
R = TypeVar("R")


class Job(Protocol):
    """One unit of a pass."""

    @property
    def name(self) -> str: ...


class Run(Protocol):
    """Runs one pass: yields (place of the job, its result) as jobs end. `names` are for people."""

    def __call__(
        self, function: Callable[[J], R], jobs: Sequence[J], names: Sequence[str]
    ) -> Iterator[tuple[int, R]]: ...


def opened(launch: Launch, work: Work) -> AbstractContextManager[Run]:
    """The executor of the recipe, ready for passes until the block ends. The caller holds the lock
    of the work folder."""
    module = import_module(f"data_prep.executors.{launch.executor}")
    return cast(AbstractContextManager[Run], module.opened(launch, work))


def num_workers(launch: Launch) -> int:
    """Workers asked for; if none, one for each core this process may use."""
    if launch.workers is not None:
        return launch.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
