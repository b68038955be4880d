"""Stop signals to a run on two hosts: all ranks save, and no other run is touched."""

import os
import signal
from pathlib import Path

import pytest

from launch.stage_process import STOP_SIGNALS
from tests.launch.hosts.pretend_run import Run
from tests.ranks import wait_for
from tests.two_hosts import TwoHosts, two_hosts

__all__ = ["two_hosts"]  # fixture


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_all_ranks_save_and_end(
    two_hosts: TwoHosts, tmp_path: Path, number: signal.Signals
) -> None:
    run = Run(two_hosts, tmp_path, "polite")
    run.are_ready()
    run.process.send_signal(number)
    last, lines = run.end()
    assert last == "outcome 75 None True"
    first, said = sorted(lines)  # the rank's own and the driver's: in either order
    assert first == "rank 0 of 2 begins"  # rank 1 is in its log only
    assert said.startswith(f"textmill: {number.name} received, stage stops as soon as it has saved")
    assert run.have_saved() == [0, 1]
    for rank, host in enumerate(two_hosts.names):
        log = (tmp_path / f"logs/stage/rank-{rank}.log").read_text().splitlines()
        assert f"rank {rank} on {host}, pid " in log[0]
        assert log[1:] == [f"rank {rank} of 2 begins"]
    two_hosts.nothing_left()


def test_ctrl_c_again_ends_a_run_with_what_it_started_and_no_other(
    two_hosts: TwoHosts, tmp_path: Path
) -> None:
    other = Run(two_hosts, tmp_path / "other", "polite")
    run = Run(two_hosts, tmp_path / "run", "stubborn")
    for each in (other, run):
        each.are_ready()
    assert len(two_hosts.running("node-01", "import time; time.sleep(600)")) == 1
    run.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "SIGTERM" in os.read(run.process.stdout.fileno(), 4096).decode(), "a word")  # type: ignore[union-attr]
    run.process.send_signal(signal.SIGINT)
    last, lines = run.end()
    assert last == "outcome -9 SIGKILL True"
    assert "textmill: SIGINT received again, ending stage without saving" in lines
    for host in two_hosts.names:
        assert not two_hosts.running(host, "import time; time.sleep(600)")
    assert other.rank(0).is_running()
    assert other.rank(1).is_running()
    other.process.send_signal(signal.SIGTERM)
    assert other.end()[0] == "outcome 75 None True"
    assert other.have_saved() == [0, 1]
    two_hosts.nothing_left()
