"""What the agent finds on its machine: its addresses, a free port, the folder that all share."""

import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

from runtime import starting
from runtime.watchdog import conduct

SHARED_SECONDS = 10.0  # until a new file shows on other machines
POLL_SECONDS = 0.25
BOOT = Path("/proc/sys/kernel/random/boot_id")


def look(first: str | None, shared: str | None) -> dict[str, Any]:
    """What the driver must know before ranks are started.

    `first` is the name of the first host, `shared` a file that the driver has just written.
    """
    return {
        "pid": os.getpid(),
        "began": conduct.began(os.getpid()),
        "boot": boot(),
        "python": platform.python_version(),
        "port": starting.free_port(),
        "address": own_address(),
        "first": [] if first is None else addresses(first),
        "is_shared": shared is None or appears(Path(shared)),
    }


def boot() -> str:
    """Another one after each start of the machine."""
    return BOOT.read_text().strip()


def own_address() -> str | None:
    """The address by which ssh has reached this machine; None if it was not by ssh."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[2] if len(words) == 4 else None


def addresses(name: str) -> list[str]:
    """What a name means here, IPv4 first; empty if it means nothing."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return [str(entry[4][0]) for entry in found]


def appears(path: Path) -> bool:
    """True once a file is seen; caches of network file systems may be late."""
    deadline = time.monotonic() + SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def interface_to(address: str) -> str | None:
    """The network interface over which this machine talks to an address, which may be its own."""
    import psutil  # late: only where there are several machines

    try:
        (family, _, _, _, target), *_ = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # sends nothing
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    return next(
        (
            name
            for name, found in psutil.net_if_addrs().items()
            if name != "lo" and any(entry.address == own for entry in found)
        ),
        None,
    )
