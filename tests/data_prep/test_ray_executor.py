"""The Ray executor on a real Ray cluster of two CPUs on this machine."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from data_prep import executor
from data_prep.work import Work
from runtime.config import Launch
from runtime.errors import DataError
from tests.data_prep.conftest import command, content, start, write_corpus_recipe
from tests.data_prep.test_executors import die, fail, full, square

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
RAY = ('launch.executor="ray"', "launch.workers=2")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[executor.Run]:
    """A cluster of our own, which ends with the module."""
    work = Work(tmp_path_factory.mktemp("work"))
    with executor.opened(Launch(executor="ray", workers=2), work) as run:
        yield run
    assert not ray.is_initialized()


def run(
    opened: executor.Run, function: Callable[[int], object], jobs: Sequence[int]
) -> list[tuple[int, object]]:
    return list(opened(function, jobs, [f"unit-{job}" for job in jobs]))


@pytest.mark.slow
def test_every_job_once(opened: executor.Run) -> None:
    for _ in range(2):
        assert sorted(run(opened, square, range(10))) == [(n, n * n) for n in range(10)]


@pytest.mark.slow
def test_errors_arrive_as_they_were(opened: executor.Run) -> None:
    with pytest.raises(DataError, match="number three"):
        run(opened, fail, range(6))
    with pytest.raises(OSError, match="No space left") as caught:
        run(opened, full, range(4))
    assert "unit-" in caught.value.__notes__[0]


@pytest.mark.slow
def test_a_job_that_ends_all_its_workers_is_named(opened: executor.Run) -> None:
    with pytest.raises(DataError, match="Ray has lost the worker at unit-2 4 times"):
        run(opened, die, range(6))


@pytest.mark.slow
def test_a_cluster_of_another_is_left_running(opened: executor.Run, tmp_path: Path) -> None:
    with executor.opened(Launch(executor="ray"), Work(tmp_path)) as other:
        assert run(other, square, [3]) == [(0, 9)]
    assert ray.is_initialized()
    assert run(opened, square, [4]) == [(0, 16)]


@pytest.mark.slow
def test_no_cluster_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(DataError, match=r"no Ray cluster answers at .*'10\.0\.0\.1:6379'"),
        executor.opened(Launch(executor="ray", ray_address="10.0.0.1:6379"), Work(tmp_path)),
    ):
        pass


def refuse(*_: object, **__: object) -> None:
    raise ConnectionError("could not find any running Ray instance")


@pytest.mark.slow
def test_the_same_bytes_after_kills(tmp_path: Path) -> None:
    recipe = write_corpus_recipe(tmp_path)
    assert command(recipe, "launch.workers=1").returncode == 0
    other = f'output="{tmp_path}/other"'
    work = tmp_path / "other" / "data.work"

    process = start(recipe, other, *RAY)
    while process.poll() is None and not list(work.glob("read/*/*.json")):
        time.sleep(0.01)
    cluster = psutil.Process(process.pid).children(recursive=True)
    agents = [child for child in cluster if "Agent" in child.name()]
    os.kill(process.pid, signal.SIGKILL)  # and only the head
    process.wait()
    _, alive = psutil.wait_procs([child for child in cluster if child not in agents], timeout=20)
    assert not alive
    for agent in agents:  # Ray's own: they would wait for a minute to report the loss
        with suppress(psutil.NoSuchProcess):
            agent.kill()
    ended = command(recipe, other, *RAY)
    assert ended.returncode == 0, ended.stderr
    assert content(tmp_path / "other" / "data") == content(tmp_path / "out" / "data")
