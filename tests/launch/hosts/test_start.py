"""Hosts on which no rank can be started: said for which reason, and none is started anywhere."""

import subprocess
import sys
from pathlib import Path

from tests.launch.hosts.pretend_run import HERE, STAGE, Run
from tests.two_hosts import TwoHosts, two_hosts

__all__ = ["two_hosts"]  # fixture


def test_a_host_that_has_no_address(two_hosts: TwoHosts, tmp_path: Path) -> None:
    (tmp_path / "hostfile").write_text("node-01 slots=1\nnode-03 slots=1\n")
    last, lines = Run(two_hosts, tmp_path, "polite").end()
    assert last == "outcome 5 None False"
    assert lines[0].startswith("textmill: no rank can be started on node-03: ssh ended with exit ")
    assert "Could not resolve hostname node-03" in lines[0]
    assert not list(tmp_path.glob("ready-*"))
    two_hosts.nothing_left()


def test_a_host_that_is_down(two_hosts: TwoHosts, tmp_path: Path) -> None:
    two_hosts.link_down("node-02")
    try:
        last, lines = Run(two_hosts, tmp_path, "polite").end()
    finally:
        two_hosts.link_up("node-02")
    assert last == "outcome 5 None False"
    assert lines[0].startswith("textmill: no rank can be started on node-02: ssh ended with exit ")
    assert "connect to host 10.77.0.2 port 22: " in lines[0]  # timed out, or no route to it
    assert lines[1:] == ["textmill: `textmill doctor --hostfile FILE` says what to do"]
    assert not list(tmp_path.glob("ready-*"))
    two_hosts.nothing_left()


def test_a_folder_that_is_not_shared(two_hosts: TwoHosts, tmp_path: Path) -> None:
    two_hosts.hostfile(tmp_path)
    (tmp_path / "logs").mkdir()
    program = f"{sys.executable} {HERE / 'start.py'} 60 {STAGE} polite {tmp_path}"
    script = f"mount -t tmpfs none logs && exec {program}"
    done = subprocess.run(
        two_hosts.command("unshare", "--mount", "sh", "-c", script),
        cwd=tmp_path, env=two_hosts.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "RecipeError: node-01, node-02 does not see a file that" in done.stderr
    assert not list(tmp_path.glob("ready-*"))
    two_hosts.nothing_left()
