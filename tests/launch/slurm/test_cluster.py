"""Chains of jobs on a real cluster of two nodes on this machine (tests/slurm_cluster.py)."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch import __main__, results
from launch.slurm import jobs
from runtime import run_lock
from tests.conftest import ROOT
from tests.data_prep.conftest import content
from tests.launch import tiny
from tests.pretrain import runs
from tests.ranks import run_ranks, wait_for
from tests.slurm_cluster import Cluster, slurm  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
STEPS = 32
TABLES = """
[slurm]
nodes = 2
ranks_per_node = 1
warn_seconds = 30
data_prep_memory_mb = 500
memory_mb = 1500
setup = ["export TEXTMILL_MASTER_ADDR=127.0.0.1"]
"""
# Two array tasks prepare the data; every step is logged and the engine is ZeRO-3.
CHANGED = {
    "[launch]\nranks = 2\nworkers = 1\n": '[launch]\nexecutor = "slurm"\nworkers = 2\n' + TABLES,
    "total_tokens = 2048": f"total_tokens = {256 * STEPS}",
    "evaluate_every_steps = 4": f"evaluate_every_steps = {STEPS // 2}",
    'precision = "fp32"': 'precision = "fp32"\nds_config = "cpu"\nthreads_per_rank = 1',
    "interval_steps = 2": "interval_steps = 1",
}
TASKS = ("mood", "calm")  # fine-tuning is an array
END_SECONDS = 240.0
STAGE_SECONDS = {"data_prep": 2.0, "pretrain": 1.0, "finetune": 5.0}  # in which each is at work


@pytest.fixture
def cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:  # noqa: F811
    """The cluster as SLURM's commands find it; a test leaves nothing in its queue."""
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield slurm
    assert slurm.run("squeue", "--noheader", "--states=PENDING,RUNNING") == ""


def write(folder: Path) -> Path:
    """The recipe, and the texts it reads."""
    folder.mkdir(parents=True)
    tiny.write(folder)
    text = tiny.RECIPE.replace("{folder}/", "")
    for before, after in CHANGED.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    table = text[text.index("[tasks.mood]") :]
    (folder / "recipe.toml").write_text(text + table.replace("[tasks.mood]", "[tasks.calm]"))
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recipe, prepared here and pretrained by two ranks here."""
    folder = write(tmp_path_factory.mktemp("straight") / "work")
    local = 'launch.executor="local"'
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", "recipe.toml", local],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs.finished(folder, 2)
    return folder


@pytest.fixture(scope="module")
def whole(straight: Path) -> Path:
    """The same folder after two ranks here have fine-tuned, too."""
    done = run_ranks(["-m", "finetune", "recipe.toml"], 2, straight)
    assert done.exit_codes == [0, 0], done.text
    return straight


def textmill(folder: Path, *words: str) -> tuple[int, str]:
    """The command, in the folder of the recipe."""
    ended = subprocess.run(
        [sys.executable, "-m", "launch", *words],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return ended.returncode, ended.stdout


def submit(folder: Path, *overrides: str) -> dict[str, str]:
    """Submit a run; the job of each stage."""
    code, shown = textmill(folder, "run", "recipe.toml", *overrides, "--launcher", "slurm")
    assert code == 0, shown
    assert "state: textmill status run" in shown
    return jobs.noted(folder / "run")


def over(folder: Path) -> bool:
    found = jobs.of_run(folder / "run")
    return not any(job.is_active for job in found.values())


def wait_for_end(folder: Path) -> dict[str, str]:
    """Wait for all jobs; the state of each."""
    wait_for(lambda: over(folder), "the end of all jobs", END_SECONDS)
    return {stage: job.state for stage, job in jobs.of_run(folder / "run").items()}


def logs(folder: Path) -> str:
    paths = sorted((folder / "run/logs/slurm").glob("*.log"))
    return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in paths)


def run_interrupted(folder: Path, interrupt: Callable[[str], object], *overrides: str) -> None:
    """Submit a run, interrupt its pretraining after step 5, and see all of it done."""
    submitted = submit_until_step_5(folder, *overrides)
    interrupt(submitted["pretrain"])
    ends = {"COMPLETED", jobs.FORGOTTEN}  # SLURM forgets a job after five minutes
    assert set(wait_for_end(folder).values()) <= ends, logs(folder)


def submit_until_step_5(folder: Path, *overrides: str) -> dict[str, str]:
    """Submit a run and wait until it is in the middle of pretraining."""
    submitted = submit(folder, *overrides)
    assert list(submitted) == ["data_prep", "pretrain", "finetune", "evaluate"]
    metrics = folder / "run/pretrain/metrics.jsonl"
    reached = '{"step": 5,'
    wait_for(
        lambda: (metrics.is_file() and reached in metrics.read_text()) or over(folder),
        "step 5 of pretraining",
        END_SECONDS,
    )
    return submitted


def test_a_chain_stopped_in_its_middle_is_the_local_run(
    cluster: Cluster, straight: Path, tmp_path: Path
) -> None:
    folder = write(tmp_path / "it's 100% #1")
    run_interrupted(folder, lambda job: cluster.run("scancel", "--signal=USR1", job))
    shown = logs(folder)
    assert "pretrain has stopped on request and goes on later" in shown
    runs.assert_same(folder, straight)
    assert len(runs.records(folder)) == STEPS
    for name in (*(f"finetune/{task}/manifest.json" for task in TASKS), "report.html"):
        assert (folder / "run" / name).is_file(), shown
    assert not list((folder / "run/slurm").glob(".textmill-job-*"))

    code, again = textmill(folder, "run", "recipe.toml", "--launcher", "slurm")
    assert (code, again.splitlines()[-1]) == (0, "nothing is submitted")
    code, status = textmill(folder, "status", "run")
    assert (code, status.count("done")) == (0, 5), status
    assert "completed" in status


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_three_random_requeues_over_a_chain_change_nothing(
    seed: int, cluster: Cluster, whole: Path, tmp_path: Path
) -> None:
    """Each of the long stages is queued again once, at an instant drawn from a seed."""
    rng = random.Random(seed)
    folder = write(tmp_path / "work")
    submitted = submit(folder)
    for stage, latest in STAGE_SECONDS.items():
        job = submitted[stage]
        wait_for(lambda job=job: bool(running(cluster, job)), f"{stage} to run", END_SECONDS)
        if stage == "pretrain":
            runs.metrics_reach(folder, rng.randint(0, 9))
        time.sleep(rng.uniform(0, latest))
        at_work = running(cluster, job)
        assert at_work, logs(folder)
        cluster.run("scontrol", "requeue", at_work[0])
    states = wait_for_end(folder)
    assert set(states.values()) <= {"COMPLETED", jobs.FORGOTTEN}, logs(folder)
    runs.assert_same(folder, whole)
    ours, theirs = (content(each / "run/data") for each in (folder, whole))
    for name in theirs:
        if "/" in name:  # those above name the folder of the texts
            assert ours[name] == theirs[name], name
    for task in TASKS:
        model = f"run/finetune/{task}/export/model.safetensors"
        assert (folder / model).read_bytes() == (whole / model).read_bytes(), task
    assert (folder / "run/report.html").is_file()


def running(cluster: Cluster, job: str) -> list[str]:
    """The job if it runs; of an array the elements that do."""
    states = ("--states=RUNNING", "--format=%A", f"--jobs={job}")
    return cluster.run("squeue", "--noheader", *states).split()


@pytest.mark.soak
def test_a_lost_rank_costs_no_step(cluster: Cluster, straight: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "work")

    def kill_rank_0(job: str) -> None:
        owner = run_lock.read(run_lock.path_of(folder / "run", "pretrain"))
        assert owner is not None
        assert owner.job == job
        os.kill(owner.pid, signal.SIGKILL)

    run_interrupted(folder, kill_rank_0, "launch.restarts=1")
    assert "pretrain has lost a rank (exit code 137): restart 1 of 1" in logs(folder)
    runs.assert_same(folder, straight)


@pytest.mark.soak
def test_a_job_that_is_cancelled_does_not_come_back(cluster: Cluster, tmp_path: Path) -> None:
    folder = write(tmp_path / "work")
    submitted = submit_until_step_5(folder)
    cluster.run("scancel", submitted["pretrain"])
    states = wait_for_end(folder)
    assert {states[stage] for stage in ("pretrain", "finetune", "evaluate")} == {"CANCELLED"}
    wait_for(lambda: cluster.run("squeue", "--noheader") == "", "an empty queue")
    assert "queues itself again" not in logs(folder)
    assert not (folder / "run/report.html").exists()


def last_step(folder: Path) -> int:
    return int(results.metrics(folder / "run/pretrain")[-1]["step"])


@pytest.mark.soak
def test_a_job_goes_on_after_its_time_limit(cluster: Cluster, tmp_path: Path) -> None:
    """Of two minutes; SLURM looks at limits every half."""
    folder = write(tmp_path / "work")
    endless = (f"train.total_tokens={256 * 10**6}", "train.evaluate_every_steps=100000")
    limits = ("slurm.minutes.pretrain=2", "slurm.warn_seconds=30")
    submitted = submit(folder, *endless, *limits)
    told = "pretrain has stopped on request and goes on later"
    wait_for(lambda: told in logs(folder) or over(folder), told, 2 * END_SECONDS)
    reached = last_step(folder)
    wait_for(
        lambda: last_step(folder) > reached or over(folder),
        f"a step after {reached}",
        END_SECONDS,
    )
    cluster.run("scancel", submitted["pretrain"])
    wait_for_end(folder)
    assert "DUE TO TIME LIMIT" not in logs(folder)
    steps = [record["step"] for record in runs.records(folder)]
    assert steps == [*range(1, len(steps) + 1)]
    assert len(steps) > reached > 0


def test_jobs_in_the_queue_are_not_submitted_again_and_a_failure_ends_the_chain(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = write(tmp_path / 'a "b" $HOME')
    hold = ('slurm.python="/bin/false"', """slurm.options={comment="x 'y' #z \\\\", hold=true}""")
    submitted = submit(folder, *hold)
    shown = cluster.run("scontrol", "show", "job", submitted["data_prep"])
    assert f"WorkDir={folder}\n" in shown
    assert "Comment=x 'y' #z \\" in shown
    assert f"StdOut={folder}/run/logs/slurm/data_prep-{submitted['data_prep']}.log" in shown

    code, again = textmill(folder, "run", "recipe.toml", *hold, "--launcher", "slurm")
    assert code == 8
    assert f"data_prep {submitted['data_prep']} pending (JobHeldUser)" in again
    assert f"scancel {' '.join(submitted.values())}" in again
    assert jobs.noted(folder / "run") == submitted
    assert textmill(folder, "status", "run")[1].count("pending (JobHeldUser)") == 5

    cluster.run("scontrol", "release", *submitted.values())
    states = wait_for_end(folder)
    assert states.pop("data_prep") == "FAILED"
    assert set(states.values()) == {"CANCELLED"}
    assert "data_prep: SLURM job" in textmill(folder, "status", "run")[1]


def test_a_partition_that_is_refused(
    cluster: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first job goes to another partition than the second, which is refused."""
    folder = write(tmp_path / "work")
    monkeypatch.chdir(folder)
    where = ('slurm.partition="nowhere"', 'slurm.cpu_partition="all"', "slurm.options.hold=true")
    before = cluster.run("squeue", "--noheader", "--format=%i")
    assert __main__.main(["run", "recipe.toml", *where, "--launcher", "slurm"]) == 3
    error = capsys.readouterr().err
    assert "nothing is submitted: invalid partition specified: nowhere; " in error
    assert len(error.splitlines()) == 1
    assert cluster.run("squeue", "--noheader", "--format=%i") == before
    assert jobs.noted(folder / "run") == {}
