"""Two ranks of this machine: what is left, and what is said, when agent or driver die."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from launch.hosts import leftovers
from launch.hosts.outgoing import MOST_BYTES, Outgoing
from launch.stage_process import Output
from tests.conftest import ROOT
from tests.ranks import wait_for

HERE = Path(__file__).parent


@contextmanager
def running(folder: Path, how: str) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """The driver and the agent of two ranks that are there; no process is left behind."""
    program = [str(HERE / "start.py"), "1", str(HERE / "pretend_stage.py"), how, str(folder)]
    process = subprocess.Popen(
        [sys.executable, *program],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        files = [folder / f"ready-{rank}" for rank in range(2)]
        wait_for(lambda: all(path.exists() for path in files), "both ranks")
        (agent,) = psutil.Process(process.pid).children()
        family = [agent, *agent.children(recursive=True)]
        yield process, agent
        wait_for(lambda: not [each for each in family if each.is_running()], "the end of all")
    finally:
        for each in [psutil.Process(process.pid)] if process.poll() is None else []:
            each.kill()
        process.wait()
        for each in family:
            if each.is_running():
                each.kill()


@pytest.mark.parametrize("how", ["polite", "stubborn"])
def test_ranks_do_not_outlive_their_agent(how: str, tmp_path: Path) -> None:
    """The driver has what does not end by itself ended: two ranks, which have a child each."""
    with running(tmp_path, how) as (process, agent):
        agent.kill()
        output, _ = process.communicate(timeout=120)
    host = socket.gethostname()
    *lines, cause, last = output.splitlines()
    assert last == "outcome 5 None False"
    assert cause == (
        f"textmill: ranks 0 to 1 on {host} cannot be followed any more: its agent ended with "
        "signal 9"
    )
    ended = f"textmill: {host}: what its lost agent has left: 2 ended, 0 still there"
    assert (ended in lines) == (how == "stubborn")
    assert len(list(tmp_path.glob("saved-*"))) == (2 if how == "polite" else 0)


def test_ranks_do_not_outlive_their_driver(tmp_path: Path) -> None:
    with running(tmp_path, "polite") as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.glob("saved-*"))) == 2


def test_leftovers_are_ended_with_what_they_started_and_others_are_not() -> None:
    process = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
    noted = leftovers.noted(process.pid)
    wait_for(lambda: bool(psutil.Process(process.pid).children()), "its child")
    (child,) = psutil.Process(process.pid).children()
    other = noted | {"began": noted["began"] + 1}
    assert leftovers.end([other, noted | {"boot": "x"}], 0.0) == {"ended": 0, "left": 0}
    assert process.poll() is None
    assert leftovers.end([noted], 0.1) == {"ended": 1, "left": 0}
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not child.is_running(), "the child's end")


def test_a_link_that_takes_nothing_stops_nobody() -> None:
    reading, writing = os.pipe()
    outgoing = Outgoing(writing)
    line = b"x" * 999 + b"\n"
    for _ in range(10_000):
        outgoing.put(line, is_needed=False)
    outgoing.put(b"the end\n")
    assert MOST_BYTES <= outgoing.size <= MOST_BYTES + 2000
    received = b""
    while outgoing.waiting:
        received += os.read(reading, 1 << 16)
        outgoing.write()
    os.close(writing)
    while more := os.read(reading, 1 << 16):
        received += more
    assert received == line * ((len(received) - 8) // 1000) + b"the end\n"
    os.close(reading)


def test_a_log_that_cannot_be_written_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(Path("/dev/full"), str) as output:
        output.show("one")
        output.note("two")
        output.show("three")
    assert capsys.readouterr().out.splitlines() == [
        "textmill: /dev/full cannot be written: No space left on device", "one", "three",
    ]  # fmt: skip
