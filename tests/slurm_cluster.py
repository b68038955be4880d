"""A real SLURM cluster of two nodes on this machine, for the tests that need one.

Three kinds of daemon (munged, slurmctld, slurmd) run in a folder of their own on free ports and are
ended by their process ids. Where SLURM is absent and this process may install Debian packages, it
installs them; else the tests skip and say why. With CI set, nothing is skipped for a reason that
installing could have cured.
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import debian

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
PACKAGES = ("slurm-wlm", "munge")
NODES = ("n1", "n2")
READY_SECONDS = 60.0
CONFIG = """
ClusterName=textmill
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CryptoType=crypto/munge
CommunicationParameters=NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=1,batch_sched_delay=0,sched_interval=2
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=2
MaxArraySize={max_array_size}
RequeueExit=99
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


class SlurmUnavailable(Exception):
    """SLURM cannot run here; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: commands find it through the environment variable SLURM_CONF."""

    config: Path
    folder: Path

    def run(self, *command: str) -> str:
        """The output of a SLURM command."""
        environment = os.environ | {"SLURM_CONF": str(self.config)}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """The cluster, one for the whole test session; SLURM_CONF is set only where a test sets it."""
    try:
        install()
        with running(max_array_size=4) as cluster:
            yield cluster
    except SlurmUnavailable as reason:
        if debian.must_be_there():
            raise
        pytest.skip(f"no SLURM: {reason}")


def install() -> None:
    """Make sure that the programs are here. Raises SlurmUnavailable."""
    missing = [program for program in PROGRAMS if find(program) is None]
    if missing:
        try:
            debian.install(PACKAGES)
        except debian.Unavailable as reason:
            raise SlurmUnavailable(f"{', '.join(missing)} not found; {reason}") from None


def find(program: str) -> str | None:
    """Where a program is; daemons are often outside the PATH of users."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


@contextmanager
def running(max_array_size: int = 1001) -> Iterator[Cluster]:
    """A cluster that is idle and ready until the block ends. Raises SlurmUnavailable."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="textmill-slurm-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        config = write_config(folder, max_array_size)
        cluster = Cluster(config, folder)
        stack.enter_context(daemon(munge_command(folder), folder, config))
        wait_for((folder / "munge.socket").exists, folder, "munged")
        stack.enter_context(daemon(["slurmctld", "-D"], folder, config))
        for node in NODES:
            stack.enter_context(daemon(["slurmd", "-D", "-N", node], folder, config))
        wait_for(lambda: is_idle(cluster), folder, "the nodes")
        stack.callback(cancel_all, cluster)
        yield cluster


def write_config(folder: Path, max_array_size: int) -> Path:
    """slurm.conf: two nodes by name on this host, each with its own port."""
    (folder / "state").mkdir()
    host = socket.gethostname().split(".")[0]
    ports = free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000"
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    path = folder / "slurm.conf"
    path.write_text(
        CONFIG.format(
            host=host,
            controller_port=ports[0],
            user=getpass.getuser(),
            folder=folder,
            max_array_size=max_array_size,
            nodes=nodes,
        )
    )
    return path


def munge_command(folder: Path) -> list[str]:
    """munged with a key and a socket of its own."""
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    return [
        "munged", "--foreground", "--force",
        f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
    ]  # fmt: skip


@contextmanager
def daemon(command: list[str], folder: Path, config: Path) -> Iterator[None]:
    """A program that stays in the foreground, ended with the block."""
    program = find(command[0])
    assert program is not None
    with (folder / f"{command[0]}.out").open("ab") as log:
        process = subprocess.Popen(
            [program, *command[1:]],
            env=os.environ | {"SLURM_CONF": str(config)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(ready: Callable[[], bool], folder: Path, what: str) -> None:
    """Raises SlurmUnavailable with the end of the daemons' logs when it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = [path for pattern in ("*.log", "*.out") for path in sorted(folder.glob(pattern))]
            ends = "\n".join(f"{path.name}: ...{path.read_text()[-800:]}" for path in logs)
            raise SlurmUnavailable(f"{what} not ready after {READY_SECONDS:.0f} s\n{ends}")
        time.sleep(0.1)


def is_idle(cluster: Cluster) -> bool:
    try:
        states = cluster.run("sinfo", "--noheader", "--Node", "--format=%T").split()
    except subprocess.CalledProcessError:
        return False  # slurmctld is not up yet
    return states == ["idle"] * len(NODES)


def cancel_all(cluster: Cluster) -> None:
    """End the jobs that a failed test has left, with all their processes."""
    cluster.run("scancel", "--state=PENDING")
    cluster.run("scancel", "--state=RUNNING", "--signal=KILL", "--full")
    deadline = time.monotonic() + 10
    while cluster.run("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports nothing listens on at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
