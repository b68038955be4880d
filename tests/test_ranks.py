"""Forked ranks are what fresh interpreters are, and never outlive the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.ranks import ROOT, Rank, run_ranks, wait_for

SCRIPT = """
import os, signal, sys, time
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "PYTHONPATH")
print(sys.argv[1:], os.getcwd(), [os.environ[name] for name in names], sys.path[0], __name__)
handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE)]
print(handlers, signal.getsignal(signal.SIGINT), sys.stdin.read())
print("to stderr", file=sys.stderr)
if sys.argv[1] == "wait":
    sys.stdout.flush()
    time.sleep(600)
if sys.argv[1] == "raise":
    raise ValueError("a fault")
sys.exit({"code": 75, "text": "a message", "none": None}[sys.argv[1]])
"""
# A process that starts a rank through a server of its own, tells their numbers, and waits.
TESTS = """
import time
from pathlib import Path
from tests import ranks
server = ranks.Server(())
ranks.server = lambda: server
folder = Path.cwd()
forked = ranks.Forked(["script.py", "wait"], ranks.variables(0, 1, 0), folder, folder / "log")
Path("pids.tmp").write_text(f"{server.process.pid} {forked.pid}")
Path("pids.tmp").rename("pids")
time.sleep(600)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("ending", ["code", "text", "none", "raise"])
def test_a_forked_rank_sees_and_says_what_a_fresh_one_does(ending: str, script: Path) -> None:
    arguments = [str(script), ending, "key=1"]
    fresh = run_ranks(arguments, 2, script.parent, fresh=True)
    forked = run_ranks(arguments, 2, script.parent)
    assert forked.exit_codes == fresh.exit_codes
    for ours, theirs in zip(forked.outputs, fresh.outputs, strict=True):
        assert "to stderr" in ours
        assert sorted(relevant(ours)) == sorted(relevant(theirs))


def relevant(output: str) -> list[str]:
    """The lines of a rank, without the places in a traceback."""
    return [line for line in output.splitlines() if not line.startswith((" ", "Traceback"))]


def test_a_killed_rank_has_the_exit_code_of_the_signal(script: Path) -> None:
    def stop(ranks: Sequence[Rank]) -> None:
        wait_for(lambda: bool(list(script.parent.glob("rank-1*.log"))), "the second rank")
        ranks[0].send_signal(signal.SIGTERM)
        ranks[1].kill()

    done = run_ranks([script, "wait"], 2, script.parent, when_running=stop)
    assert done.exit_codes == [-signal.SIGTERM, -signal.SIGKILL]


def test_server_and_ranks_end_with_tests_that_are_killed(script: Path) -> None:
    folder = script.parent
    tests = subprocess.Popen(
        [sys.executable, "-c", TESTS], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        wait_for((folder / "pids").is_file, "the rank to start")
    finally:
        tests.kill()
        tests.wait()
    pids = [int(number) for number in (folder / "pids").read_text().split()]
    wait_for(lambda: not any(map(is_running, pids)), f"the end of {pids}", 10)


def is_running(pid: int) -> bool:
    """False for a process that is gone or only waits to be asked for its exit code."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
