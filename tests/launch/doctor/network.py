"""Machines on this machine: each with a network, a name, processes and mounts of its own, an sshd,
and an ssh that knows the others. All of a machine ends with its first process.

`node-a`, `node-b`... share a switch and every file that lies below no mount of their own.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import debian
from tests.ranks import wait_for

PACKAGES = ("openssh-server", "iproute2")
SSHD = "/usr/sbin/sshd"
SSHD_CONFIG = """ListenAddress 0.0.0.0
Port 22
HostKey {key}
AuthorizedKeysFile {authorized}
PidFile {pid}
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""
SSH_CONFIG = """IdentityFile {key}
IdentitiesOnly yes
UserKnownHostsFile {known}
GlobalKnownHostsFile /dev/null
"""


@dataclass
class Machine:
    """One of the machines."""

    name: str
    address: str
    pid: int  # of its first process
    folder: Path  # its own: keys, configuration
    environment: dict[str, str] = field(default_factory=dict)  # of who comes by ssh
    server: "subprocess.Popen[bytes] | None" = None

    @property
    def inside(self) -> list[str]:
        """The command below which others run on this machine."""
        flags = ("--net", "--mount", "--uts", "--ipc", "--pid", f"--wdns={self.folder.parent}")
        return ["nsenter", "--target", str(self.pid), *flags]

    def run(self, *command: str | Path) -> str:
        """Run a command on it, as root."""
        done = subprocess.run(
            [*self.inside, *map(str, command)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def start_sshd(self) -> None:
        """With the variables of `environment`."""
        config = self.folder / "sshd_config"
        text = SSHD_CONFIG.format(
            key=self.folder / "host_key",
            authorized=self.folder.parent / "user_key.pub",
            pid=self.folder / "sshd.pid",
        )
        if self.environment:
            pairs = " ".join(f'{name}="{value}"' for name, value in self.environment.items())
            text += f"SetEnv {pairs}\n"
        config.write_text(text)
        with (self.folder / "sshd.log").open("wb") as log:
            self.server = subprocess.Popen(
                [*self.inside, SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log
            )
        listening = [*self.inside, "ss", "-Hltn", "sport = :22"]
        wait_for(
            lambda: bool(subprocess.run(listening, capture_output=True, check=True).stdout),
            f"sshd of {self.name}",
        )

    def stop_sshd(self) -> None:
        assert self.server is not None
        self.run("kill", (self.folder / "sshd.pid").read_text().strip())
        self.server.wait()

    def restart_sshd(self, **environment: str) -> None:
        """With these variables for who comes by ssh."""
        self.environment |= environment
        self.stop_sshd()
        self.start_sshd()


@dataclass(frozen=True)
class Network:
    """All of them."""

    machines: dict[str, Machine]
    folder: Path  # seen by all

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @property
    def hostfile(self) -> Path:
        return self.folder / "hostfile"


def key(path: Path) -> Path:
    """A new ssh key; its public half is PATH.pub."""
    path.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True
    )
    return path


def first_process(stack: ExitStack) -> int:
    """The first process of new namespaces, which ends, with all in them, when the stack closes."""
    flags = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "unshare", *flags, "--kill-child=KILL", "sleep", "inf"],
        stdin=subprocess.DEVNULL,
    )

    def end() -> None:
        holder.kill()
        holder.wait()

    stack.callback(end)
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    wait_for(lambda: bool(children.read_text().split()), "the first process of a machine")
    pid = int(children.read_text().split()[0])
    wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it to be ready")
    return pid


@contextmanager
def network(folder: Path, names: Sequence[str]) -> Iterator[Network]:
    """Machines of these names, each of which reaches all others by ssh."""
    if not Path(SSHD).exists() or shutil.which("ip") is None:
        debian.install_or_skip(PACKAGES)
    with ExitStack() as stack:
        switch = Machine("switch", "", first_process(stack), folder)
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        key(folder / "user_key")
        machines = {}
        for number, name in enumerate(names, 1):
            own = folder / name
            own.mkdir()
            key(own / "host_key")
            machine = Machine(name, f"10.77.0.{number}", first_process(stack), own)
            machines[name] = machine
            machine.run("hostname", name)
            machine.run("ip", "link", "set", "lo", "up")
            # From outside, where the switch's process id means what it says.
            peer = ("peer", "name", f"to-{name}", "netns", str(switch.pid))
            link = ["ip", "link", "add", "eth0", "type", "veth", *peer]
            subprocess.run(["nsenter", f"--target={machine.pid}", "--net", *link], check=True)
            switch.run("ip", "link", "set", f"to-{name}", "master", "br0", "up")
            machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
            machine.run("ip", "link", "set", "eth0", "up")
        machines["switch"] = switch
        found = Network(machines, folder)
        configure(found, names)
        for name in names:
            found[name].start_sshd()
        yield found


def configure(found: Network, names: Sequence[str]) -> None:
    """The files that every machine has of its own: names, ssh, shared memory."""
    lines = [f"{found[name].address} {name}" for name in names]
    (found.folder / "known_hosts").write_text(
        "".join(f"{name} {(found[name].folder / 'host_key.pub').read_text()}" for name in names)
    )
    for name in names:
        own = found[name].folder
        (own / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        (own / "ssh_config").write_text(
            SSH_CONFIG.format(key=found.folder / "user_key", known=found.folder / "known_hosts")
        )
        found[name].run("mount", "--bind", own / "hosts", "/etc/hosts")
        found[name].run("mount", "--bind", own / "ssh_config", "/etc/ssh/ssh_config")
        found[name].run("mount", "-t", "tmpfs", "none", "/dev/shm")
        found[name].run("mkdir", "-p", "/run/sshd")
    found.hostfile.write_text("".join(f"{name} slots=1\n" for name in names))
