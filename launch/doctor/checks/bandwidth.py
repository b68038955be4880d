"""How fast the hosts add numbers up together: an all-reduce as training does it, measured.

All hosts together first. If that is slow, neighbours two by two, so that the host behind it can be
named: it is slow with both of its neighbours, which are fast with theirs.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from launch.doctor.finding import Finding, fault, warning
from launch.doctor.party import Party
from launch.doctor.plan import Asked, Plan
from runtime import starting

AFTER = ("reach", "links", "names", "interfaces", "shadows", "versions", "devices")
FLOORS = {"gloo": 0.1, "nccl": 1.0}  # GB/s: a network of 1 and of 10 Gbit/s
SECONDS = 120.0
SLOWER = 0.5  # than the median of the other pairs, as a share


def applies(plan: Plan) -> bool:
    return plan.is_many


@dataclass(frozen=True)
class Seen:
    gigabytes_per_second: float | None  # of this host with all others; None: it failed
    backend: str
    error: str | None = None
    pairs: dict[str, float] = field(default_factory=dict)  # with each neighbour


def gather(party: Party, plan: Plan) -> Mapping[str, Seen]:
    """All, then pairs where that is slow or fails."""
    if len(party.hosts) < 2:
        return {}
    found = measured(party, [party.hosts])
    if len(party.hosts) == 2 or not any(map(is_slow, found.values())):
        return found
    pairs: dict[str, dict[str, float]] = {host: {} for host in party.hosts}
    for groups in rounds(party.hosts):
        told = measured(party, groups)
        for one, other in groups:
            for host, neighbour in ((one, other), (other, one)):
                speed = told[host].gigabytes_per_second if host in told else None
                pairs[host][neighbour] = speed or 0.0
    return {
        host: Seen(seen.gigabytes_per_second, seen.backend, seen.error, pairs[host])
        for host, seen in found.items()
    }


def is_slow(found: Seen) -> bool:
    speed = found.gigabytes_per_second
    return speed is None or speed < FLOORS.get(found.backend, 0.0)


def rounds(hosts: Sequence[str]) -> Iterator[list[list[str]]]:
    """Each host with its neighbours on a ring, in rounds of disjoint pairs."""
    ring = [[host, hosts[(number + 1) % len(hosts)]] for number, host in enumerate(hosts)]
    rest = ring[:-1] if len(hosts) % 2 else ring
    yield rest[::2]
    yield rest[1::2]
    if len(hosts) % 2:
        yield ring[-1:]


def measured(party: Party, groups: Sequence[Sequence[str]]) -> dict[str, Seen]:
    """Let every group measure, all groups at once."""
    firsts = party.ask("bandwidth", "address", {group[0]: {} for group in groups})
    asked = {
        host: {**firsts[group[0]], "number": number, "count": len(group)}
        for group in groups
        if group[0] in firsts
        for number, host in enumerate(group)
    }
    return {
        host: Seen(**answer)
        for host, answer in party.ask("bandwidth", "measure", asked, SECONDS).items()
    }


def address(asked: Asked) -> dict[str, Any]:
    """Where the group of this host meets."""
    return {"address": asked.host, "port": starting.free_port()}


def measure(asked: Asked, address: str, port: int, number: int, count: int) -> Seen:
    """Be this host's rank, or its ranks where it has devices."""
    ranks = (asked.slots or 1) if os.path.exists("/dev/nvidiactl") else 1
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "runtime.bandwidth"],
            env={**os.environ, **variables(address, port, number * ranks + i, count * ranks, i)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(ranks)
    ]  # fmt: skip
    try:
        ends = [process.communicate(timeout=SECONDS - 10) for process in processes]
    except subprocess.TimeoutExpired:
        return Seen(None, "", f"it did not end within {SECONDS - 10:.0f} s")
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
    for process, (_, errors) in zip(processes, ends, strict=True):
        if process.returncode:
            return Seen(None, "", (errors.strip().splitlines() or ["it said nothing"])[-1])
    return Seen(**json.loads(ends[0][0].strip().splitlines()[-1]))


def variables(address: str, port: int, rank: int, world_size: int, local: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    errors = {host: found.error for host, found in seen.items() if found.error is not None}
    speeds = [found.gigabytes_per_second for found in seen.values() if found.gigabytes_per_second]
    if errors:
        host, text = next(iter(errors.items()))
        yield fault(
            host,
            f"an all-reduce over all hosts failed: {text}",
            "`NCCL_DEBUG=INFO textmill doctor --only bandwidth ...` says where; often a driver, "
            "an interface or a firewall",
        )
    if not speeds or not any(map(is_slow, seen.values())):
        return
    backend = next(found.backend for found in seen.values() if found.backend)
    guilty = slow_hosts(seen)
    yield warning(
        ", ".join(guilty) or "all hosts",
        f"an all-reduce moves {min(speeds):.3f} GB/s over all hosts ({backend}; at least "
        f"{FLOORS[backend]:g} is usual)"
        + (", and as little between these and any other" if guilty else ""),
        "look at its link (`ethtool eth0 | grep Speed`), its cable and its switch port, or name a "
        "faster interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME",
    )


def slow_hosts(seen: Mapping[str, Seen]) -> list[str]:
    """Those that are slow with every neighbour, if others are not."""
    best = max((speed for found in seen.values() for speed in found.pairs.values()), default=0.0)
    return [
        host
        for host, found in seen.items()
        if found.pairs and max(found.pairs.values()) < SLOWER * best
    ]
