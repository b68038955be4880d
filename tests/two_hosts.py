"""Two hosts, and a third machine to start runs from, as network namespaces on this machine.

The hosts `node-01` and `node-02` have an address, a name in /etc/hosts and an sshd of their own;
their cables (`eth0`) meet in a bridge in the third namespace, `login`. Nothing of it can be seen
from this machine's own network, so any number of test sessions may have their own. All share the
file system and the process ids of this machine. `ssh` on `login` is a script that names a
configuration of the session; pdsh and DeepSpeed's runner use it too.

Where the programs are absent and this process may install Debian packages, it installs them; else
the tests skip and say why. In CI a failure is one: skipped is only what the kernel does not allow.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests import debian
from tests.ranks import ROOT, wait_for

PROGRAMS = {"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "pdsh": "pdsh"}
NAMES = ("node-01", "node-02")
CABLE = "eth0"
NETWORK = "10.77.0"
SSHD = """
Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""
SSH = """
Host {name}
    HostName {address}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
"""


class NoHosts(Exception):
    """Namespaces cannot be made here; the message says why."""


class Forbidden(NoHosts):
    """The kernel does not let this process make them."""


@dataclass(frozen=True)
class TwoHosts:
    """The machines of a session."""

    folder: Path
    spaces: dict[str, str]  # network namespace by the name of the machine
    names: tuple[str, str] = NAMES

    def command(self, *arguments: str | Path, on: str = "login") -> list[str]:
        """A command line that runs on one of the machines."""
        return ["ip", "netns", "exec", self.spaces[on], *map(str, arguments)]

    def environment(self, **more: str) -> dict[str, str]:
        """What a run is started with on `login`: `ssh` comes first in PATH."""
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **more}

    def start(
        self, arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str] = {}
    ) -> subprocess.Popen[str]:
        """Run `python ARGUMENTS` on `login`."""
        return subprocess.Popen(
            self.command(sys.executable, *arguments),
            cwd=folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def hostfile(self, folder: Path, slots: int = 1) -> Path:
        """Both hosts with so many ranks each."""
        path = folder / "hostfile"
        path.write_text("".join(f"{name} slots={slots}\n" for name in self.names))
        return path

    def link_down(self, host: str) -> None:
        """Pull a host's cable."""
        ip("-n", self.spaces[host], "link", "set", CABLE, "down")

    def link_up(self, host: str) -> None:
        ip("-n", self.spaces[host], "link", "set", CABLE, "up")

    def processes(self, host: str) -> list[psutil.Process]:
        """What runs on a host, beside the sshd that listens."""
        pids = ip("netns", "pids", self.spaces[host]).split()
        found = []
        for pid in map(int, pids):
            try:
                process = psutil.Process(pid)
                if process.ppid() != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def running(self, host: str, *words: str) -> list[psutil.Process]:
        """The processes of a host whose command line holds all these words one after the other."""
        return [process for process in self.processes(host) if holds(line_of(process), words)]

    def end_dead_connections(self, host: str) -> None:
        """End each sshd whose other side went while the link was down, else in hours. Fails if
        something else still runs after a while."""
        wait_for(lambda: not self.others_than_sshd(host), f"nothing but sshd on {host}", 180)
        for process in self.processes(host):
            process.kill()

    def others_than_sshd(self, host: str) -> list[str]:
        lines = [" ".join(line_of(process)) for process in self.processes(host)]
        return [line for line in lines if line and "sshd" not in line.partition(" ")[0]]

    def is_empty(self, host: str) -> bool:
        return not self.processes(host)

    def nothing_left(self) -> None:
        """Fails if something still runs on a host after a while."""
        for host in self.names:
            wait_for(partial(self.is_empty, host), f"nothing running on {host}")


def holds(line: Sequence[str], words: Sequence[str]) -> bool:
    return any(tuple(line[i : i + len(words)]) == tuple(words) for i in range(len(line)))


def line_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.fixture(scope="session")
def two_hosts() -> Iterator[TwoHosts]:
    """The machines, made once for a test session and removed at its end."""
    try:
        install()
        with made() as hosts:
            yield hosts
    except NoHosts as reason:
        if debian.must_be_there() and not isinstance(reason, Forbidden):
            raise
        pytest.skip(f"no hosts in network namespaces: {reason}")


def install() -> None:
    """Make sure that the programs are here. Raises NoHosts."""
    if os.geteuid() != 0:
        raise NoHosts("only root can make them")
    missing = [package for program, package in PROGRAMS.items() if find(program) is None]
    if missing:
        try:
            debian.install(missing)
        except debian.Unavailable as reason:
            raise NoHosts(str(reason)) from None


def find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def ip(*arguments: str) -> str:
    """Run `ip`. Raises NoHosts with what it says."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        kind = Forbidden if "Operation not permitted" in done.stderr else NoHosts
        raise kind(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def made() -> Iterator[TwoHosts]:
    """The machines until the block ends, however it ends. Raises NoHosts."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="textmill-hosts-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        unique = secrets.token_hex(4)
        hosts = TwoHosts(folder, {name: f"tm-{unique}-{name}" for name in ("login", *NAMES)})
        for name, space in hosts.spaces.items():
            add_space(space, name, folder, stack)
        connect(hosts)
        write_keys(folder)
        (folder / "bin").mkdir()
        for number, name in enumerate(NAMES, 1):
            start_sshd(hosts, name, f"{NETWORK}.{number}", stack)
        shim = folder / "bin" / "ssh"
        shim.write_text(f'#!/bin/sh\nexec {find("ssh")} -F {folder}/config "$@"\n')
        shim.chmod(0o755)
        for name in NAMES:
            wait_for(partial(answers, hosts, name), f"sshd on {name}")
        yield hosts


def add_space(space: str, name: str, folder: Path, stack: ExitStack) -> None:
    """A network namespace, in which the hosts have names, the machine has its own, and root has a
    home of the session and a shell that reads no files of this machine."""
    etc = Path("/etc/netns") / space
    etc.mkdir(parents=True)
    stack.callback(remove_etc, etc)
    lines = [f"127.0.0.1 localhost\n127.0.1.1 {name}\n"]  # as Debian does for its own name
    lines += [f"{NETWORK}.{i} {host}\n" for i, host in enumerate(NAMES, 1) if host != name]
    (etc / "hosts").write_text("".join(lines))
    (etc / "resolv.conf").write_text("")  # no name server: it could not be reached
    (folder / "home").mkdir(exist_ok=True)
    users = Path("/etc/passwd").read_text().splitlines()
    root = f"root:x:0:0:root:{folder}/home:/bin/sh"
    users = [root if user.startswith("root:") else user for user in users]
    (etc / "passwd").write_text("\n".join(users) + "\n")
    ip("netns", "add", space)
    stack.callback(end_space, space)
    ip("-n", space, "link", "set", "lo", "up")


def remove_etc(etc: Path) -> None:
    shutil.rmtree(etc)
    if not any(etc.parent.iterdir()):
        etc.parent.rmdir()


def end_space(space: str) -> None:
    """End what a failed test has left there, then the namespace with its cables."""
    for pid in map(int, ip("netns", "pids", space).split()):
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            continue
    ip("netns", "delete", space)


def connect(hosts: TwoHosts) -> None:
    """A bridge on `login` with a cable to each host."""
    login = hosts.spaces["login"]
    ip("-n", login, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
    ip("-n", login, "addr", "add", f"{NETWORK}.254/24", "dev", "bridge")
    ip("-n", login, "link", "set", "bridge", "up")
    for number, name in enumerate(NAMES, 1):
        space, port = hosts.spaces[name], f"port{number}"
        ip("link", "add", CABLE, "netns", space, "type", "veth", "peer", port, "netns", login)
        ip("-n", login, "link", "set", port, "master", "bridge", "up")
        ip("-n", space, "addr", "add", f"{NETWORK}.{number}/24", "dev", CABLE)
        ip("-n", space, "link", "set", CABLE, "up")


def write_keys(folder: Path) -> None:
    """Keys of the hosts and of the user, and what ssh needs to know of them."""
    for name in ("key", "host_key"):
        line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(line, check=True)
    kind, key, _ = (folder / "host_key.pub").read_text().split()
    addresses = [f"{NETWORK}.{number}" for number, _ in enumerate(NAMES, 1)]
    (folder / "known_hosts").write_text("".join(f"{a} {kind} {key}\n" for a in addresses))
    (folder / "config").write_text(
        "".join(
            SSH.format(name=name, address=address, folder=folder)
            for name, address in zip(NAMES, addresses, strict=True)
        )
    )


def start_sshd(hosts: TwoHosts, name: str, address: str, stack: ExitStack) -> None:
    """An sshd in the foreground, ended with the stack."""
    Path("/run/sshd").mkdir(exist_ok=True)  # which it insists on
    config = hosts.folder / f"sshd-{name}.conf"
    config.write_text(SSHD.format(address=address, folder=hosts.folder))
    program = find("sshd")
    assert program is not None
    log = stack.enter_context((hosts.folder / f"sshd-{name}.log").open("ab"))
    clean = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    line = hosts.command(program, "-D", "-e", "-f", config, on=name)
    process = subprocess.Popen(
        line, env=clean, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)


def answers(hosts: TwoHosts, name: str) -> bool:
    line = hosts.command("ssh", "-o", "BatchMode=yes", name, "true")
    done = subprocess.run(line, env=hosts.environment(), capture_output=True, check=False)
    return done.returncode == 0
