"""The executors: results, errors, and workers that die."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from data_prep import executor
from data_prep.work import Work
from runtime.config import Launch
from runtime.errors import DataError, OutOfMemory, TextmillError


def square(number: int) -> int:
    return number * number


def fail(number: int) -> int:
    if number == 3:
        raise DataError("number three")
    return number


def full(_: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", "/some/file")


def die(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave(number: int) -> int:
    if number == 2:
        os._exit(7)
    return number


def modules(_: int) -> list[str]:
    import data_prep.build  # all that a worker could need

    assert data_prep.build.__doc__
    return [name for name in ("torch", "transformers", "deepspeed") if name in sys.modules]


def run(
    function: Callable[[int], object], jobs: Sequence[int], workers: int
) -> list[tuple[int, object]]:
    """Run one pass by local workers."""
    names = [f"unit-{job}" for job in jobs]
    with executor.opened(Launch(workers=workers), Work(Path("unused"))) as opened:
        return list(opened(function, jobs, names))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_job_once(workers: int) -> None:
    assert sorted(run(square, range(10), workers)) == [
        (number, number * number) for number in range(10)
    ]


def test_no_jobs() -> None:
    assert run(square, [], 2) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_arrives_as_it_was(workers: int) -> None:
    with pytest.raises(DataError, match="number three"):
        run(fail, range(6), workers)


def test_a_full_disk_keeps_its_number() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        run(full, range(4), 2)
    assert caught.value.errno == errno.ENOSPC
    assert "unit-" in caught.value.__notes__[0]


@pytest.mark.parametrize(("function", "kind"), [(die, OutOfMemory), (leave, DataError)])
def test_a_dead_worker_names_its_unit(function: object, kind: type[TextmillError]) -> None:
    with pytest.raises(kind, match="a worker died at unit-2"):
        run(function, range(6), 2)  # type: ignore[arg-type]


def test_workers_do_not_import_torch() -> None:
    assert [found for _, found in run(modules, range(2), 2)] == [[], []]
