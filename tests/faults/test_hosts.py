"""A long night on two hosts: one fault after another, and the result of a run without any."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.launch.hosts.pretend_run import only
from tests.pretrain.conftest import prepared
from tests.pretrain.runs import assert_same, finished, metrics_reach
from tests.ranks import wait_for
from tests.two_hosts import TwoHosts, holds, line_of, two_hosts

__all__ = ["prepared", "two_hosts"]  # fixtures
pytestmark = [pytest.mark.soak, pytest.mark.distributed]
OVERRIDES = ("train.total_tokens=98304", "watchdog.min_seconds=20")  # 96 steps
RANK = ("-m", "pretrain", "recipe.toml")


@pytest.fixture(scope="module")
def local(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run of 2 ranks on this machine."""
    folder = tmp_path_factory.mktemp("local") / "workplace"
    shutil.copytree(prepared, folder)
    finished(folder, 2, *OVERRIDES)
    return folder


@pytest.fixture
def workplace(prepared: Path, tmp_path: Path, two_hosts: TwoHosts) -> Path:
    folder = tmp_path / "workplace"
    shutil.copytree(prepared, folder)
    two_hosts.hostfile(folder)
    return folder


def has_no_rank(hosts: TwoHosts, host: str) -> bool:
    return not hosts.running(host, *RANK)


Process = subprocess.Popen[str]
Fault = Callable[[TwoHosts, Process], None]


def rank(hosts: TwoHosts, host: str) -> psutil.Process:
    return only(hosts.running(host, *RANK))


def stop(hosts: TwoHosts, process: Process) -> None:
    process.send_signal(signal.SIGUSR1)


def interrupt_twice(hosts: TwoHosts, process: Process) -> None:
    process.send_signal(
        signal.SIGHUP
    )  # of two that wait, the one with the lower number comes first
    process.send_signal(signal.SIGINT)


def kill_the_driver(hosts: TwoHosts, process: Process) -> None:
    process.kill()


def kill_a_rank(hosts: TwoHosts, process: Process) -> None:
    rank(hosts, "node-01").kill()


def stop_a_rank(hosts: TwoHosts, process: Process) -> None:
    rank(hosts, "node-02").suspend()


def kill_an_agent(hosts: TwoHosts, process: Process) -> None:
    agent = rank(hosts, "node-01").parent()
    assert agent is not None
    agent.kill()


def kill_ssh(hosts: TwoHosts, process: Process) -> None:
    children = psutil.Process(process.pid).children()
    only([child for child in children if holds(line_of(child), ("--", "node-02"))]).kill()


def pull_the_cable(hosts: TwoHosts, process: Process) -> None:
    hosts.link_down("node-02")


NIGHT: tuple[tuple[Fault, int], ...] = (
    (stop, 75),
    (kill_a_rank, 5),
    (kill_an_agent, 5),
    (kill_the_driver, -9),
    (interrupt_twice, 75),
    (kill_ssh, 5),
    (stop_a_rank, 5),
    (pull_the_cable, 5),
)


def test_a_night(
    two_hosts: TwoHosts,
    local: Path,
    workplace: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each fault strikes some steps later than the one before; the same command goes on."""
    record_property("faults", len(NIGHT))
    command = ["-m", "launch", "run", "recipe.toml", "--hostfile", "hostfile", *OVERRIDES]
    for number, (fault, code) in enumerate(NIGHT, 1):
        process = two_hosts.start(command, workplace)
        try:
            metrics_reach(workplace, 10 * number)
            fault(two_hosts, process)
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
            two_hosts.link_up("node-02")
        assert process.returncode == code, (fault.__name__, output)
        for host in two_hosts.names:
            wait_for(partial(has_no_rank, two_hosts, host), fault.__name__, 400)
        if fault is pull_the_cable:
            two_hosts.end_dead_connections("node-02")
        two_hosts.nothing_left()
    process = two_hosts.start(command, workplace)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same(workplace, local)


def test_the_plain_command_is_stopped_by_a_signal_to_one_rank(
    two_hosts: TwoHosts, local: Path, workplace: Path
) -> None:
    names = ("DS_ACCELERATOR", "OMP_NUM_THREADS", "TORCH_EXTENSIONS_DIR", "HF_HUB_OFFLINE")
    variables = {name: os.environ[name] for name in names} | {"GLOO_SOCKET_IFNAME": "eth0"}
    text = "".join(f"{name}={value}\n" for name, value in variables.items())
    (workplace / ".deepspeed_env").write_text(text)
    runner = str(Path(sys.executable).with_name("deepspeed"))
    options = ["--quiet", "--hostfile", "hostfile", "--no_local_rank", "--module"]
    command = [runner, *options, "pretrain", "recipe.toml", *OVERRIDES]
    for is_stopped in (True, False):
        process = two_hosts.start(command, workplace)
        try:
            if is_stopped:
                metrics_reach(workplace, 10)
                rank(two_hosts, "node-02").terminate()
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == (75 if is_stopped else 0), output
        two_hosts.nothing_left()
    assert_same(workplace, local)
