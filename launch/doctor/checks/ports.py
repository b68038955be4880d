"""The port at which ranks meet is free on the host of rank 0."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

DEEPSPEED_PORT = 29500  # its runner's default
NAME = "MASTER_PORT"


@dataclass(frozen=True)
class Seen:
    port: int | None  # None: the launcher chooses a free one when it starts
    holder: str | None  # who has it; None: nobody


def look(asked: Asked) -> Seen:
    port = port_of(asked)
    if port is None:
        return Seen(None, None)
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's store does
        try:
            found.bind(("", port))
        except OSError:
            return Seen(port, holder_of(port))
    return Seen(port, None)


def port_of(asked: Asked) -> int | None:
    named = os.environ.get(NAME, "")
    if named.isdigit() and int(named):
        return int(named)
    return DEEPSPEED_PORT if asked.plan.reached == "ssh" else None


def holder_of(port: int) -> str:
    """The process that listens on a port, as far as this user may know."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {connection.pid} ({' '.join(process.cmdline())[:80]})"
    return "a process of another user"


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    found = seen.get(plan.first)
    if found is not None and found.holder is not None:
        yield fault(
            plan.first,
            f"port {found.port}, at which ranks meet, is taken by {found.holder}",
            "end that process if it is left from a run, or choose another port with "
            f"`deepspeed --master_port N` or {NAME}",
        )
