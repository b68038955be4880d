"""Stages as processes: exit codes and signals arrive whole, also of several ranks."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from launch import stage_process
from launch.hosts import driver, nodes
from launch.hosts.driver import Wanted
from launch.stage_process import Outcome

# A stage that does what its first argument says, and stops like a real one on SIGTERM.
STAGE = """
import os, signal, sys, time
told = sys.argv[1]
rank = os.environ.get("RANK", "alone")
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
for line in (
    f"textmill: rank {rank} of {os.environ.get('WORLD_SIZE', '1')} is here",
    "[2026-01-01 00:00:00,000] [INFO] [engine.py:1:x] chatter",
    "textmill: DataError: the same on every rank",
):
    os.write(2, f"{line}\\n".encode())
if told.startswith("exit"):
    time.sleep(0.5 if rank in ("0", "alone") else 1.5)
    os._exit(int(told[4:]))
open(f"{sys.argv[2]}/ready-{rank}", "w").close()
while not asked:
    time.sleep(0.05)
os._exit(75)
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a stage module that the interpreter finds."""
    (tmp_path / "pretend_stage.py").write_text(STAGE)
    monkeypatch.setattr(driver, "FAILED_SECONDS", 0.5)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "pretend_stage"


def run(stage: str, told: list[str], ranks: int, folder: Path) -> Outcome:
    program = stage_process.program(stage, Path(told[0]), told[1:])
    log = folder / "logs" / "stage.log"
    if ranks == 1:
        return stage_process.run(stage, program, dict(os.environ), log)
    wanted = Wanted(nodes.here(ranks), program, folder / "logs" / "stage", folder / "cache")
    return stage_process.run_ranks(stage, wanted, log)


def when_ready(folder: Path, ranks: int, act: Callable[[], None]) -> threading.Thread:
    """Act once every rank waits."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("ready-*"))) < ranks and time.monotonic() < deadline:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("code", [0, 3, 75])
def test_exit_code_of_the_stage_arrives(stage: str, ranks: int, code: int, tmp_path: Path) -> None:
    outcome = run(stage, [f"exit{code}"], ranks, tmp_path)
    assert outcome == Outcome(exit_code=code, signal_name=None, stop_requested=False)


@pytest.mark.parametrize("ranks", [1, 2])
def test_stop_signal_reaches_every_rank(stage: str, ranks: int, tmp_path: Path) -> None:
    when_ready(tmp_path, ranks, stop_this_process)
    outcome = run(stage, ["wait", str(tmp_path)], ranks, tmp_path)
    assert outcome == Outcome(exit_code=75, signal_name=None, stop_requested=True)


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_rank_is_named_by_its_signal(stage: str, ranks: int, tmp_path: Path) -> None:
    def kill_one() -> None:
        family = psutil.Process().children(recursive=True)
        family = [child for child in family if child.status() != psutil.STATUS_ZOMBIE]
        found = [child for child in family if stage in child.cmdline()]
        found[-1].kill()

    when_ready(tmp_path, ranks, kill_one)
    outcome = run(stage, ["wait", str(tmp_path)], ranks, tmp_path)
    assert outcome.signal_name == "SIGKILL"
    assert not outcome.stop_requested


def test_handlers_are_put_back(stage: str, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in stage_process.STOP_SIGNALS]
    run(stage, ["exit0"], 1, tmp_path)
    assert [signal.getsignal(number) for number in stage_process.STOP_SIGNALS] == before


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stage_process.forwarded("stage", lambda: None, lambda: None) as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
        assert received == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_console_is_quiet_and_the_log_is_whole(
    stage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(stage, ["exit3"], 2, tmp_path)
    shown = capfd.readouterr().out
    host = socket.gethostname()
    assert shown.splitlines() == [
        "textmill: rank 0 of 2 is here",
        "textmill: DataError: the same on every rank",
        f"textmill: rank 0 on {host} ended with exit code 3: DataError: the same on every rank",
    ]
    log = (tmp_path / "logs" / "stage.log").read_text()
    assert "chatter" in log
    assert "python -m pretend_stage exit3" in log.splitlines()[0]
    for rank in range(2):
        own = (tmp_path / "logs" / "stage" / f"rank-{rank}.log").read_text()
        assert f"rank {rank} on {host}, pid " in own.splitlines()[0]
        assert f"rank {rank} of 2 is here" in own
        assert own.count("DataError") == own.count("chatter") == 1


@pytest.mark.parametrize(
    ("code", "number"),
    [(0, None), (3, None), (75, None), (255, None), (-9, 9), (137, 9), (143, 15)],
)
def test_signals_behind_exit_codes(code: int, number: int | None) -> None:
    assert stage_process.ending_signal(code) == number
