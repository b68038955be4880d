"""Every name of the hostfile is a machine of its own."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan


def applies(plan: Plan) -> bool:
    return plan.is_many


@dataclass(frozen=True)
class Seen:
    machine: str  # differs between machines, and between containers with networks of their own


def look(asked: Asked) -> Seen:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return Seen(socket.gethostname())
    return Seen(f"{boot.read_text().strip()} {Path('/proc/self/ns/net').readlink()}")


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for host, found in seen.items():
        twin = first.setdefault(found.machine, host)
        if twin != host and plan.reached != "srun":  # SLURM may have several nodes on one machine
            yield fault(
                host,
                f"it is the same machine as {twin}: their ranks would share its devices",
                f"keep one of the two names, with `slots` for all ranks of the machine: "
                f"{(plan.slots(twin) or 0) + (plan.slots(host) or 0)}",
            )
