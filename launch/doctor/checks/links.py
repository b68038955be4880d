"""Every host reaches every other on any port, as the connections of collectives do, and what it
sends arrives.

Each host listens on a port that the system chooses, and each connects to all others and waits for
the echo of more than one packet holds. A connection without the echo means that small packets pass
and full ones do not: the MTU of some part of the network is smaller than that of the hosts.
"""

import errno
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault
from launch.doctor.party import Party
from launch.doctor.plan import Asked, Plan

CONNECT_SECONDS = 5.0
ECHO_SECONDS = 5.0
PAYLOAD = bytes(256 * 1024)
SECONDS = 30.0
THREADS = 32


def applies(plan: Plan) -> bool:
    return plan.is_many


@dataclass(frozen=True)
class Seen:
    failures: dict[str, str]  # by the host it could not reach: how it failed


def gather(party: Party, plan: Plan) -> Mapping[str, Seen]:
    """Let all listen, then all connect."""
    ports = party.ask("links", "listen")
    wanted = {
        host: {"ports": {other: port for other, port in ports.items() if other != host}}
        for host in party.hosts
    }
    return {
        host: Seen(failures)
        for host, failures in party.ask("links", "connect", wanted, SECONDS).items()
    }


def listen(asked: Asked) -> int:
    """Echo whatever comes, until this process ends; the port."""
    server = socket.create_server(("", 0), backlog=256)
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    return int(server.getsockname()[1])


def serve(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.settimeout(ECHO_SECONDS)
        while block := connection.recv(1 << 16):
            connection.sendall(block)


def connect(asked: Asked, ports: Mapping[str, int]) -> dict[str, str]:
    """How the connections to other hosts fail, where they do."""
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        told = pool.map(lambda pair: failure(*pair), ports.items())
        return {host: text for host, text in zip(ports, told, strict=True) if text is not None}


def failure(host: str, port: int) -> str | None:
    """`name`, `blocked`, `refused`, `stalls`, or None if all is well."""
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    except OSError:
        return "name"
    try:
        connection = socket.create_connection((str(address[0]), port), CONNECT_SECONDS)
    except OSError as error:
        is_refused = error.errno == errno.ECONNREFUSED
        return "refused" if is_refused else f"blocked: {error.strerror or 'timed out'}"
    with connection:
        connection.settimeout(ECHO_SECONDS)
        return None if echoed(connection) else "stalls"


def echoed(connection: socket.socket) -> bool:
    """Whether the payload comes back."""
    sending = threading.Thread(target=send, args=(connection,), daemon=True)
    sending.start()
    missing = len(PAYLOAD)
    with suppress(OSError):
        while missing and (block := connection.recv(min(missing, 1 << 16))):
            missing -= len(block)
    return missing == 0


def send(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(PAYLOAD)


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        for other, text in found.failures.items():
            where = f"{host} -> {other}"
            if text == "name":
                continue  # `names` tells it
            if text == "stalls":
                yield fault(
                    where,
                    "connections open, but full packets do not arrive: the MTU between them is "
                    "smaller than that of their interfaces",
                    "give all interfaces and switches the same MTU (`ip link set dev eth0 mtu "
                    "1500` on both), and let ICMP pass",
                )
            elif text == "refused":
                yield fault(
                    where,
                    f"{other} under that name refuses what {other} listens on: the name leads to "
                    "another machine or address there",
                    f"correct the address of {other} in /etc/hosts or DNS of {host}",
                )
            else:
                yield fault(
                    where,
                    f"ranks could not connect ({text.removeprefix('blocked: ')})",
                    f"let {other}'s firewall accept all TCP ports from {host}, for example `nft "
                    "insert rule inet filter input ip saddr ADDRESS accept`",
                )
