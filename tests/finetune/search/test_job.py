"""Real processes: told to stop, ended, found again after their driver."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from finetune.search import job
from finetune.search.job import Job
from finetune.search.starts import Start
from launch.hosts import nodes
from launch.hosts.driver import Wanted
from tests.ranks import wait_for

# Says that it is there, then does what it is told on a stop signal.
PROGRAM = """
import os, signal, subprocess, sys, time
how, path = sys.argv[1:3]
asked = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: asked.append(number))
if how == "stubborn":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(path + ".child", "w").write(str(child.pid))
open(path, "w").close()
while how == "stubborn" or not asked:
    time.sleep(0.02)
os.write(1, f"saved {signal.Signals(asked[0]).name}\\n".encode())
os._exit(75)
"""


def program(how: str, ready: Path, is_step: bool = False) -> Start:
    line = (sys.executable, "-c", PROGRAM, how, str(ready))
    return Start(line, dict(os.environ), is_step=is_step)


def script(text: str) -> Start:
    return Start(("sh", "-c", text), dict(os.environ))


def code_of(running: Job) -> int:
    wait_for(lambda: running.poll() is not None, "the end of the trial")
    code = running.poll()
    assert code is not None
    return code


@pytest.mark.parametrize(("is_step", "name"), [(False, "SIGTERM"), (True, "SIGUSR1")])
def test_a_trial_is_told_to_stop(tmp_path: Path, is_step: bool, name: str) -> None:
    ready = tmp_path / "ready"
    running = Job(program("polite", ready, is_step), tmp_path / "trial")
    wait_for(ready.exists, "the rank")
    assert running.poll() is None
    assert (tmp_path / "trial" / job.PROCESS).is_file()
    running.stop()
    running.stop()
    assert code_of(running) == 75
    assert running.has_saved(75)
    assert (tmp_path / "trial" / job.LOG).read_text() == f"saved {name}\n"
    assert not (tmp_path / "trial" / job.PROCESS).exists()


def test_what_does_not_stop_is_ended_with_what_it_started(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    running = Job(program("stubborn", ready), tmp_path)
    wait_for(ready.exists, "the rank")
    child = int((tmp_path / "ready.child").read_text())
    running.stop(grace_seconds=0.1)
    assert code_of(running) == -signal.SIGKILL
    wait_for(lambda: not is_running(child), "its child's end")


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def ranks(how: str, ready: Path, folder: Path) -> Start:
    """Two ranks of the program."""
    text = PROGRAM.replace(
        "path = sys.argv[1:3]", 'path = sys.argv[1:3]; path += os.environ["RANK"]'
    )
    wanted = Wanted(nodes.here(2), ("-c", text, how, str(ready)), folder, folder / "cache")
    return Start((sys.executable, "-m", "launch.hosts"), dict(os.environ), wanted=wanted)


@pytest.mark.parametrize(("how", "code"), [("polite", 75), ("stubborn", 128 + signal.SIGKILL)])
def test_all_ranks_of_a_trial_are_told_to_stop_and_ended(
    tmp_path: Path, how: str, code: int
) -> None:
    ready = [tmp_path / f"ready{rank}" for rank in range(2)]
    running = Job(ranks(how, tmp_path / "ready", tmp_path), tmp_path)
    wait_for(lambda: all(path.exists() for path in ready), "both ranks")
    running.stop(grace_seconds=60 if how == "polite" else 0.1)
    assert code_of(running) == code
    saved = ["saved SIGTERM" in (tmp_path / f"rank-{rank}.log").read_text() for rank in range(2)]
    assert saved == [how == "polite"] * 2
    children = [int(path.read_text()) for path in tmp_path.glob("*.child")]
    assert len(children) == (0 if how == "polite" else 2)
    for child in children:
        wait_for(lambda child=child: not is_running(child), "its child's end")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("textmill: DataError: no rows\nTraceback\n  later\n", "DataError: no rows"),
        ("Traceback\n  File\nKeyError: 'x'\n\n", "KeyError: 'x'"),
        ("textmill: SIGTERM received, saving\n", "SIGTERM received, saving"),
        ("", "it said nothing"),
    ],
)
def test_the_error_of_the_newest_start(tmp_path: Path, said: str, error: str) -> None:
    (tmp_path / job.LOG).write_text("textmill: DataError: of an earlier start\n")
    (tmp_path / "said").write_text(said)
    running = Job(script(f"cat {tmp_path / 'said'}; exit 3"), tmp_path)
    assert code_of(running) == 3
    assert running.error() == error


def test_which_ends_are_no_failure(tmp_path: Path) -> None:
    plain = Job(script("true"), tmp_path / "a")
    assert plain.has_saved(75)
    assert not plain.has_saved(0)  # it ended without a result
    step = Job(Start(("true",), dict(os.environ), is_step=True), tmp_path / "b")
    assert step.has_saved(0)
    code_of(plain)
    code_of(step)


def test_what_outlived_its_driver_is_stopped(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    driver = (
        "import os, sys; from pathlib import Path; from finetune.search.job import Job;"
        "from finetune.search.starts import Start;"
        "Job(Start(tuple(sys.argv[2:]), dict(os.environ)), Path(sys.argv[1]));"
        "os._exit(0)"
    )
    line = program("polite", ready).line
    subprocess.run([sys.executable, "-c", driver, tmp_path, *line], check=True, cwd=Path.cwd())
    wait_for(ready.exists, "the orphan")
    assert job.end_leftover(tmp_path)
    assert (tmp_path / job.LOG).read_text() == "saved SIGTERM\n"
    assert not job.end_leftover(tmp_path)


def test_a_process_with_the_number_of_an_old_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / job.PROCESS).write_text(f'{{"pid": {os.getpid()}, "created": 1.0}}')
    assert not job.end_leftover(tmp_path)
