"""`python -m launch.hosts`: ranks on two hosts for a program that watches several such runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.hosts import hostfile, nodes
from launch.hosts.driver import Wanted
from tests.launch.hosts.pretend_run import STAGE
from tests.ranks import wait_for
from tests.two_hosts import TwoHosts, two_hosts

__all__ = ["two_hosts"]  # fixture


@pytest.mark.parametrize(
    ("how", "signals", "code"),
    [
        ("polite", (signal.SIGTERM,), 75),
        ("stubborn", (signal.SIGHUP, signal.SIGINT), 137),  # the order in which both arrive
    ],
)
def test_it_passes_signals_on_and_ends_all(
    two_hosts: TwoHosts, tmp_path: Path, how: str, signals: tuple[signal.Signals, ...], code: int
) -> None:
    """Also under nohup: a hang-up then comes from the program that started it."""
    found = nodes.of_hosts(hostfile.read(two_hosts.hostfile(tmp_path)))
    wanted = Wanted(
        found, (STAGE, how, str(tmp_path)), tmp_path, tmp_path / "cache", {"HF_TOKEN": "begins"}
    )
    process = subprocess.Popen(
        two_hosts.command("nohup", sys.executable, "-m", "launch.hosts"),
        cwd=tmp_path, env=two_hosts.environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(wanted.to_json())
        process.stdin.close()
        process.stdin = None
        ready = [tmp_path / f"ready-{rank}" for rank in range(2)]
        wait_for(lambda: all(path.exists() for path in ready), "both ranks")
        for number in signals:
            process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, output
    assert "rank 0 of 2 ***" in output  # a secret that is printed
    assert "begins" not in output
    two_hosts.nothing_left()
