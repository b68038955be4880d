"""How a stopped process is made to write its stacks, and ended."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runtime.watchdog import conduct
from runtime.watchdog.ending import end
from runtime.watchdog.report import Member
from tests.ranks import wait_for

PROGRAM = """
import sys, threading, time
from pathlib import Path
from runtime.watchdog.stacks import Stacks

def spin(depth):
    return spin(depth - 1) + sum(range(3)) if depth else 0

stacks = Stacks(Path(sys.argv[1]), 0)
for _ in range(4):
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()
print("ready", flush=True)
while True:
    spin(50)
"""


@pytest.mark.parametrize("attempt", range(5))
def test_the_main_thread_writes_the_stacks(attempt: int, tmp_path: Path) -> None:
    """It does not run meanwhile; any other thread would read frames that change."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        stopped = psutil.Process(process.pid)
        wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED, "the stop")
        began = conduct.began(process.pid)
        path = tmp_path / "stacks-rank-0.txt"
        end(Member(0, "here", "here", process.pid, began), path, "it was stopped")
    assert process.returncode == -signal.SIGKILL
    told, *threads = path.read_text().split("\n\n")
    assert told.startswith("--- ")
    assert len(threads) == 4
    assert threads[-1].startswith("Current thread ")
    assert "in <module>" in threads[-1]
