"""A rank that is stopped (SIGSTOP) under `textmill run`: named and ended, the run started again as
often as the recipe says, then code 5. The result is that of the uninterrupted run."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.oracle import Shape, kept_in_view, nothing_left, same, uninterrupted
from tests.launch.tiny import ended
from tests.pretrain.conftest import prepared as prepared
from tests.pretrain.conftest import workplace as workplace
from tests.pretrain.runs import metrics_reach
from tests.ranks import ROOT
from tests.two_hosts import holds, line_of

pytestmark = [pytest.mark.soak, pytest.mark.distributed]
SHAPE = Shape(("train.total_tokens=49152",))  # 48 steps
COMMAND = (
    *("-m", "launch", "run", "recipe.toml", "launch.ranks=2", "launch.restarts=1"),
    *("watchdog.min_seconds=10", *SHAPE.overrides),
)


def launched(folder: Path) -> subprocess.Popen[str]:
    compiled = str(folder / "compiled")  # a cache, which torch would keep with temporary files
    environment = {"PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": compiled}
    return subprocess.Popen(
        [sys.executable, *COMMAND],
        cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def a_rank(launcher: "subprocess.Popen[str]", number: int) -> psutil.Process:
    family = psutil.Process(launcher.pid).children(recursive=True)
    found = [each for each in family if holds(line_of(each), ("-m", "pretrain"))]
    return next(each for each in found if each.environ()["RANK"] == str(number))


def test_a_stopped_rank_is_named_and_the_run_goes_on(
    prepared: Path,
    workplace: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    straight = uninterrupted(SHAPE, prepared, tmp_path_factory)
    with kept_in_view(tmp_path / "temporary", monkeypatch) as before:
        process = launched(workplace)
        try:
            stopped = []
            for number, step in ((1, 6), (0, 20)):
                metrics_reach(workplace, step)
                stopped.append(a_rank(process, number))
                stopped[-1].send_signal(signal.SIGSTOP)
        finally:
            code, shown = ended(process)
        assert code == 5, shown
        assert "Traceback" not in shown
        for number, rank in zip((1, 0), stopped, strict=True):
            name = f"rank {number} on {socket.gethostname()} (pid {rank.pid})"
            assert f"{name} has stopped, by a signal or a debugger: no heartbeat for " in shown
        assert shown.count("starting again from its last checkpoint, restart 1 of 1") == 1
        code, shown = ended(launched(workplace))
        assert code == 0, shown
        nothing_left(before, workplace)
    same(workplace, straight)
