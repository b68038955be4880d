"""A launcher that dies must not leave ranks that train on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runtime.watchdog import launcher
from tests.ranks import free_port, variables, wait_for

PROGRAM = Path(__file__).with_name("rank_program.py")
# Starts the ranks described in its input, tells their pids, and waits for them.
LAUNCHER = """
import json, subprocess, sys
ranks = [
    subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for arguments, environment in json.load(sys.stdin)
]
print(*(rank.pid for rank in ranks), flush=True)
for rank in ranks:
    rank.wait()
"""


def test_a_command_typed_by_hand_may_outlive_its_terminal() -> None:
    assert not launcher.is_launched({"PATH": "/bin"})
    assert launcher.is_launched({"RANK": "0"})
    assert launcher.is_launched({"SLURM_STEP_ID": "0"})
    assert launcher.is_launched({launcher.LAUNCHED: "1"})


def test_a_pipe_without_a_reader_is_replaced(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    assert not launcher.has_no_reader(writer)
    os.close(reader)
    assert launcher.has_no_reader(writer)
    launcher.replace(writer, tmp_path / "log")
    os.write(writer, b"still heard")
    os.close(writer)
    assert (tmp_path / "log").read_bytes() == b"still heard"


@pytest.mark.distributed
def test_ranks_stop_and_save_when_their_launcher_is_killed(tmp_path: Path) -> None:
    given = json.dumps({"steps": 100_000, "seconds": 0.05, "min_seconds": 20})
    port = free_port()
    ranks = [([sys.executable, str(PROGRAM), given], variables(rank, 2, port)) for rank in range(2)]
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(ranks))
        process.stdin.close()
        pids = [int(pid) for pid in process.stdout.readline().split()]
        try:
            wait_for((tmp_path / "step-1").is_file, "the first step")
            process.kill()
            codes = [tmp_path / f"code-{rank}" for rank in range(2)]
            wait_for(lambda: all(path.is_file() for path in codes), "the end of the ranks")
            wait_for(lambda: not any(is_running(pid) for pid in pids), "the end of the processes")
        finally:
            process.kill()
            for pid in filter(is_running, pids):
                os.kill(pid, signal.SIGKILL)
    assert [path.read_text() for path in codes] == ["75", "75"]
    for rank in range(2):
        said = (tmp_path / f"run/logs/pretrain/orphan-rank-{rank}.log").read_text()
        assert f"the process that started this rank (pid {process.pid}) is gone" in said
        assert "textmill: StopRequested: stopped at step " in said


def is_running(pid: int) -> bool:
    try:
        found = psutil.Process(pid)
        return found.status() != psutil.STATUS_ZOMBIE and PROGRAM.name in str(found.cmdline())
    except psutil.Error:
        return False
