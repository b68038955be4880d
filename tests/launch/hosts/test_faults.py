"""Ranks on two hosts by real ssh: whoever dies, the code is right and nothing is left."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.hosts import driver, ssh
from tests.launch.hosts.pretend_run import LOST, Run
from tests.ranks import wait_for
from tests.two_hosts import TwoHosts, two_hosts

__all__ = ["two_hosts"]  # fixture


@pytest.mark.parametrize(("how", "saved"), [("polite exit 4", [0]), ("stubborn exit 4", [])])
def test_a_failing_rank_is_named_and_its_code_returned(
    two_hosts: TwoHosts, tmp_path: Path, how: str, saved: list[int]
) -> None:
    """The other one, which does not end by itself, is told to and then made to."""
    run = Run(two_hosts, tmp_path, how, seconds=1)
    last, lines = run.end()
    assert last == "outcome 4 None False"
    assert lines[-3:] == [
        "rank 1 | rank 1 of 2 begins",
        "rank 1 | textmill: NumericError: 5 updates in a row",
        "textmill: rank 1 on node-02 ended with exit code 4: NumericError: 5 updates in a row",
    ]
    assert run.have_saved() == saved
    two_hosts.nothing_left()


def kill_rank(run: Run) -> None:
    run.rank(1).kill()


def kill_agent(run: Run) -> None:
    run.agent(1).kill()


def kill_ssh(run: Run) -> None:
    run.ssh(1).kill()


@pytest.mark.parametrize(
    ("kill", "outcome", "cause"),
    [
        (kill_rank, "outcome -9 SIGKILL False", "textmill: rank 1 on node-02 ended with SIGKILL"),
        (kill_agent, "outcome 5 None False", LOST + "exit code 255: its agent there was killed"),
        (kill_ssh, "outcome 5 None False", LOST + "signal 9"),
    ],
)
def test_whoever_is_killed(
    two_hosts: TwoHosts,
    tmp_path: Path,
    kill: Callable[[Run], None],
    outcome: str,
    cause: str,
) -> None:
    run = Run(two_hosts, tmp_path, "polite", seconds=1)
    run.are_ready()
    kill(run)
    last, lines = run.end()
    assert last == outcome
    assert lines[-1].startswith(cause)
    assert run.have_saved() == ([0] if kill is kill_rank else [0, 1])
    two_hosts.nothing_left()


def test_a_new_agent_ends_what_a_killed_one_has_left(two_hosts: TwoHosts, tmp_path: Path) -> None:
    run = Run(two_hosts, tmp_path, "stubborn", seconds=1)
    run.are_ready()
    kill_agent(run)
    last, lines = run.end()
    assert last == "outcome 5 None False"
    assert "textmill: node-02: what its lost agent has left: 1 ended, 0 still there" in lines
    assert lines[-1].startswith(LOST)
    assert run.have_saved() == []
    two_hosts.nothing_left()


@pytest.mark.parametrize(("how", "saved"), [("polite", [0, 1]), ("stubborn", [])])
def test_ranks_do_not_outlive_their_driver(
    two_hosts: TwoHosts, tmp_path: Path, how: str, saved: list[int]
) -> None:
    run = Run(two_hosts, tmp_path, how)
    run.are_ready()
    run.process.kill()
    run.process.communicate()
    two_hosts.nothing_left()
    assert run.have_saved() == saved
    assert (
        "who started them is gone; the ranks save and stop"
        in (tmp_path / "logs/stage/rank-1.log").read_text()
    )


def test_a_link_that_goes_down(two_hosts: TwoHosts, tmp_path: Path) -> None:
    run = Run(two_hosts, tmp_path, "polite", seconds=2)
    run.are_ready()
    two_hosts.link_down("node-02")
    try:
        last, lines = run.end()
        wait_for(lambda: run.have_saved() == [0, 1], "the agent on the lost host")
    finally:
        two_hosts.link_up("node-02")
    assert last == "outcome 5 None False"
    assert lines[-1].startswith(LOST + "exit code 255")
    assert any("node-02 does not answer: its agent ends its ranks by itself" in x for x in lines)
    two_hosts.end_dead_connections("node-02")
    two_hosts.nothing_left()


def test_the_documentation_names_the_times(root: Path) -> None:
    text = " ".join((root / "docs/hostfile.md").read_text().split())
    grace, silent = driver.GRACE_SECONDS / 60, driver.SILENT_SECONDS / 60
    noticed = ssh.ALIVE_SECONDS * (ssh.ALIVE_QUESTIONS + 1)
    assert f"after {driver.FAILED_SECONDS:.0f} s by SIGTERM, then by SIGKILL" in text
    assert f"ends what has not ended after {grace:.0f} minutes" in text
    assert f"save and end, and end them after {grace:.0f} minutes" in text
    assert silent == 1
    assert f"within {noticed} s here, within a minute by an agent that hears nothing" in text
