"""The limits of a process (`ulimit`) are high enough for the ranks."""

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

FILES = 256  # of a rank alone
FILES_PER_RANK = 16  # connections to each other rank, over all process groups
PROCESSES = 512
PROCESSES_PER_RANK = 64  # threads count, too
LOCKED_BYTES = 1 << 30
INFINIBAND = "/sys/class/infiniband"
FIX = (
    "add `* - {name} {value}` to /etc/security/limits.conf on it, then start its sshd or slurmd "
    "again, which hands its own limits on"
)


@dataclass(frozen=True)
class Seen:
    """Soft limits; -1: none."""

    files: int
    processes: int
    locked_bytes: int
    has_infiniband: bool


def look(asked: Asked) -> Seen:
    return Seen(
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        resource.getrlimit(resource.RLIMIT_NPROC)[0],
        resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        os.path.isdir(INFINIBAND) and bool(os.listdir(INFINIBAND)),
    )


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    files = FILES + FILES_PER_RANK * (plan.num_ranks or 1)
    for host, found in seen.items():
        processes = PROCESSES + PROCESSES_PER_RANK * (plan.slots(host) or 1)
        if 0 <= found.files < files:
            yield fault(
                host,
                f"a process may open {found.files} files (`ulimit -n`), ranks may need {files}",
                FIX.format(name="nofile", value=65536),
            )
        if 0 <= found.processes < processes:
            yield fault(
                host,
                f"the user may have {found.processes} processes and threads (`ulimit -u`), ranks "
                f"may need {processes}",
                FIX.format(name="nproc", value=65536),
            )
        if found.has_infiniband and 0 <= found.locked_bytes < LOCKED_BYTES:
            yield fault(
                host,
                f"a process may lock {found.locked_bytes >> 10} KiB of memory (`ulimit -l`), which "
                "is too little for InfiniBand",
                FIX.format(name="memlock", value="unlimited"),
            )
