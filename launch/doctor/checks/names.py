"""Names lead where they should: every host finds rank 0's, and finds itself.

Unless GLOO_SOCKET_IFNAME says otherwise, gloo listens on the address of the machine's own name.
Debian writes `127.0.1.1 NAME` into /etc/hosts: the other hosts then get an address at which they
reach themselves, and all wait for each other.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

VARIABLE = "GLOO_SOCKET_IFNAME"


def applies(plan: Plan) -> bool:
    return plan.is_many


@dataclass(frozen=True)
class Seen:
    hostname: str
    own: list[str]  # addresses of its own name
    names: dict[str, list[str]]  # addresses of the hosts, as it sees them
    interface: str | None  # GLOO_SOCKET_IFNAME
    has_devices: bool  # NCCL chooses by interface, and gloo is not used


def look(asked: Asked) -> Seen:
    return Seen(
        socket.gethostname(),
        addresses(socket.gethostname()),
        {host.name: addresses(host.name) for host in asked.plan.hosts},
        os.environ.get(VARIABLE),
        os.path.exists("/dev/nvidiactl"),
    )


def addresses(name: str) -> list[str]:
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError:
        return []


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        if not found.interface and not found.has_devices and all_loopback(found.own):
            leads = f"leads to {found.own[0]}" if found.own else "has no address"
            yield fault(
                host,
                f"its own name {found.hostname} {leads}, so the other ranks would not reach it",
                f"set {VARIABLE} in {plan.variables} (see `ip -brief address`), or give "
                f"{found.hostname} its network address in /etc/hosts there",
            )
        for name, leads_to in found.names.items():
            if name != host and name in seen and all_loopback(leads_to):
                wrong = f"leads to {leads_to[0]}" if leads_to else "has no address"
                yield fault(
                    host,
                    f"the name {name} {wrong} there",
                    f"add `ADDRESS {name}` to /etc/hosts on it, or add the name to DNS",
                )


def all_loopback(found: list[str]) -> bool:
    """True if nothing but loopback addresses is left, as it is if there are none."""
    return all(address.startswith("127.") or address == "::1" for address in found)
