"""The SLURM executor on a real cluster of two nodes on this machine (tests/slurm_cluster.py)."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from data_prep import executor
from data_prep.executors import arrays
from data_prep.work import Work
from runtime.config import Launch, Slurm
from runtime.errors import DataError, RecipeError
from tests.data_prep.conftest import ROOT, command, content, start, write_corpus_recipe
from tests.data_prep.test_executors import fail, square
from tests.slurm_cluster import Cluster, slurm  # noqa: F401  (a fixture)

SLURM = ('launch.executor="slurm"', "launch.workers=3")


@pytest.fixture
def cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:  # noqa: F811
    """The cluster as SLURM's commands find it; a test leaves nothing in its queue."""
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("data_prep.executors.slurm.LATE_FILES_SECONDS", 0.2)  # one file system
    yield slurm
    assert slurm.run("squeue", "--noheader", "--states=PENDING,RUNNING") == ""


def run(
    function: Callable[[int], object], jobs: Sequence[int], folder: Path, workers: int = 2
) -> list[tuple[int, object]]:
    """Run one pass by tasks of an array."""
    folder.mkdir(parents=True)
    launch = Launch(executor="slurm", workers=workers, slurm=Slurm(options={"comment": "a 'b' $c"}))
    with executor.opened(launch, Work(folder)) as opened:
        return list(opened(function, jobs, [f"unit-{job}" for job in jobs]))


def die_once(folder: Path, number: int) -> int:
    """Kill the task that does job 2 the first time."""
    mark = folder / "died"
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_options_reach_sbatch_as_arguments() -> None:
    table = Slurm(partition="a b; rm -rf $HOME", memory_mb=500, options={"qos": "x y"})
    assert arrays.options(table) == ["--partition=a b; rm -rf $HOME", "--mem=500M", "--qos=x y"]


def test_options_of_ours_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"launch\.slurm\.options sets wrap"):
        arrays.options(Slurm(options={"wrap": "rm -rf /"}))


def test_a_machine_without_slurm_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="the command scontrol is not here"):
        run(square, range(3), tmp_path / "work")


@pytest.mark.slow
def test_every_job_once_even_if_a_task_dies(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "it's 100% $HOME"
    found = run(
        partial(die_once, tmp_path), range(20), folder, workers=9
    )  # more than MaxArraySize (4)
    assert sorted(found) == [(number, number) for number in range(20)]
    assert (tmp_path / "died").exists()
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_errors_arrive_as_they_were(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="number three") as caught:
        run(fail, range(6), tmp_path / "work")
    assert "unit-3" in caught.value.__notes__[0]


@pytest.mark.slow
def test_a_job_that_ends_all_its_tasks_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 tasks died at unit-0; the end of the last log"):
        run(die, [0], tmp_path / "work")


@pytest.mark.slow
def test_another_executor_goes_on_after_kills(cluster: Cluster, tmp_path: Path) -> None:
    recipe = write_corpus_recipe(tmp_path)
    assert command(recipe, "launch.workers=1").returncode == 0
    other = (f'output="{tmp_path}/by slurm"',)
    work = tmp_path / "by slurm" / "data.work"

    kill_at(start(recipe, *other, *SLURM), work, "read/*/*.json", signal.SIGKILL)
    assert list(work.glob("slurm/*"))  # the array of the killed head is still there
    head = start(recipe, *other, *SLURM)
    kill_at(head, work, "encode/*/*.json", signal.SIGTERM)
    assert not (work / "slurm").exists()
    assert cluster.run("squeue", "--noheader", "--states=PENDING,RUNNING") == ""

    ended = command(recipe, *other, "launch.workers=2")
    assert ended.returncode == 0, ended.stderr
    assert content(tmp_path / "by slurm" / "data") == content(tmp_path / "out" / "data")


@pytest.mark.slow
def test_the_same_bytes(cluster: Cluster, tmp_path: Path) -> None:
    recipe = write_corpus_recipe(tmp_path)
    assert command(recipe, "launch.workers=1").returncode == 0
    ended = command(recipe, f'output="{tmp_path}/other"', *SLURM)
    assert ended.returncode == 0, ended.stderr
    assert content(tmp_path / "other" / "data") == content(tmp_path / "out" / "data")


def kill_at(
    process: "subprocess.Popen[bytes]", work: Path, sign: str, number: signal.Signals
) -> None:
    """Send the head a signal as soon as a file appears."""
    while process.poll() is None and not list(work.glob(sign)):
        time.sleep(0.01)
    assert process.poll() is None, "the build has ended before it could be killed"
    process.send_signal(number)
    process.wait(timeout=30)
