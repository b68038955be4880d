"""A job that is queued again while its earlier start still saves, and starts that come at once: one
works at a time, and the result is that of the uninterrupted run."""

import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.oracle import Shape, same, uninterrupted
from tests.pretrain.conftest import prepared as prepared
from tests.pretrain.conftest import workplace as workplace
from tests.pretrain.runs import RUN, finished, metrics_reach
from tests.ranks import ROOT, Forked, free_port, variables, wait_for
from tests.slurm_cluster import Cluster, slurm  # noqa: F401  (a fixture)

pytestmark = pytest.mark.distributed
ALONE = Shape(("train.total_tokens=6144",), world_size=1)  # 6 steps
MANY = Shape(("train.total_tokens=49152",))  # 48 steps
ATTEMPTS = range(20)
FIRST, *OTHERS = ATTEMPTS
REQUEUES = 3


class Start:
    """A run of one rank, as SLURM starts it or as somebody types it."""

    def __init__(self, folder: Path, name: str, job: str | None) -> None:
        environment = variables(0, 1, free_port()) | ({"SLURM_JOB_ID": job} if job else {})
        self.log = folder / f"{name}.log"
        self.rank = Forked([*RUN, *ALONE.overrides], environment, folder, self.log)

    def end(self) -> tuple[int, str]:
        code = self.rank.wait(240)
        return code, self.log.read_text(errors="replace")


@contextmanager
def starts(folder: Path, job: str | None) -> Iterator[list[Start]]:
    """The first start; more may be added. None outlives the block."""
    found = [Start(folder, "first", job)]
    try:
        yield found
    finally:
        for each in found:
            each.rank.kill()
            each.rank.wait()


def assert_uninterrupted(workplace: Path, prepared: Path, factory: pytest.TempPathFactory) -> None:
    same(workplace, uninterrupted(ALONE, prepared, factory))
    assert not list((workplace / "run/locks").iterdir())


@pytest.mark.soak
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_of_two_starts_at_once_one_runs_and_one_is_told(
    attempt: int, prepared: Path, workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with starts(workplace, None) as found:
        found.append(Start(workplace, "second", None))
        ends = sorted(each.end() for each in found)
    assert [code for code, _ in ends] == [0, 8], ends
    assert "pretrain is in use by process" in ends[1][1]
    assert_uninterrupted(workplace, prepared, tmp_path_factory)


@pytest.mark.soak
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_two_starts_of_one_job_at_once_take_turns(
    attempt: int, prepared: Path, workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The second waits; what it then finds is done."""
    with starts(workplace, "77") as found:
        found.append(Start(workplace, "second", "77"))
        ends = [each.end() for each in found]
    assert [code for code, _ in ends] == [0, 0], ends
    assert_uninterrupted(workplace, prepared, tmp_path_factory)


@pytest.mark.parametrize(
    "attempt", [FIRST, *(pytest.param(number, marks=pytest.mark.soak) for number in OTHERS)]
)
def test_a_start_that_comes_while_the_earlier_one_saves_goes_on_from_there(
    attempt: int, prepared: Path, workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with starts(workplace, "77") as found:
        metrics_reach(workplace, random.Random(attempt).randint(0, 4))
        found[0].rank.send_signal(signal.SIGTERM)
        found.append(Start(workplace, "second", "77"))
        (first, before), (second, after) = (each.end() for each in found)
    assert first == 75, before
    assert second == 0, after
    assert_uninterrupted(workplace, prepared, tmp_path_factory)


@pytest.mark.soak
def test_a_job_of_the_hand_written_script_that_slurm_queues_again_and_again(
    slurm: Cluster,  # noqa: F811
    prepared: Path,
    workplace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At random steps; how many ranks have saved by the time SLURM kills them is left to chance."""
    (workplace / "launch").symlink_to(ROOT / "launch")  # submitted from the project's folder
    for name, value in (
        ("SLURM_CONF", str(slurm.config)),
        ("PYTHONPATH", str(ROOT)),
        ("TEXTMILL_PYTHON", sys.executable),
        ("TEXTMILL_MASTER_ADDR", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workplace)
    text = (ROOT / "slurm/pretrain.sbatch").read_text()
    script = workplace / "pretrain.sbatch"
    script.write_text(text.replace("#SBATCH --gpus-per-node=8\n", ""))  # of which there are none
    job = slurm.run(
        "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1",
        "--mem=1500", "--time=30", "--output=job.log", str(script), "recipe.toml", *MANY.overrides,
    ).strip()  # fmt: skip
    log = workplace / "job.log"
    rng = random.Random(os.urandom(8))
    steps = [10 * number + rng.randint(2, 9) for number in range(REQUEUES)]
    print(f"queued again after steps {steps}")
    try:
        for step in steps:
            metrics_reach(workplace, step)
            slurm.run("scontrol", "requeue", job)
            wait_for(lambda: state(slurm, job) != "RUNNING", "the end of this start")
            wait_for(lambda: state(slurm, job) == "RUNNING", "the next start", 240)
        wait_for(
            lambda: state(slurm, job) not in ("PENDING", "RUNNING", "COMPLETING"), "its end", 400
        )
    finally:
        shown = slurm.run("scontrol", "show", "job", job)
        if state(slurm, job) in ("PENDING", "RUNNING"):
            slurm.run("scancel", job)
    assert "JobState=COMPLETED" in shown, log.read_text()
    assert f"Restarts={REQUEUES} " in shown
    finished(workplace, 2, *MANY.overrides)  # does nothing: it is done
    same(workplace, uninterrupted(MANY, prepared, tmp_path_factory))


def state(cluster: Cluster, job: str) -> str:
    return cluster.run(
        "squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"
    ).strip()
