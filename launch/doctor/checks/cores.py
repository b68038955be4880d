"""Each rank has cores of its own: threads that share one wait for each other at every barrier."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor import cgroup
from launch.doctor.finding import Finding, warning
from launch.doctor.plan import Asked, Plan

OMP = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Seen:
    machine: int  # cores it has
    usable: int  # cores this process may use
    reason: str  # what takes the others away; empty: nothing
    omp_threads: int | None
    has_devices: bool


def look(asked: Asked) -> Seen:
    machine = os.cpu_count() or 1
    usable, reason = machine, ""
    bound = len(os.sched_getaffinity(0))
    if bound < usable:
        usable, reason = bound, f"it is bound to {bound} of {machine} cores"
    quota = cgroup.cores()
    if quota is not None and quota < usable:
        usable = cgroup.whole_cores(quota)
        reason = f"a control group allows the time of {quota:g} of {machine} cores"
    told = os.environ.get(OMP, "")
    omp = int(told) if told.isdigit() else None
    return Seen(machine, usable, reason, omp, os.path.exists("/dev/nvidiactl"))


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    chosen = None if plan.job is None else plan.job.threads_per_rank
    for host, found in seen.items():
        ranks = plan.slots(host) or 1
        share = max(1, found.usable // ranks)
        because = f" ({found.reason})" if found.reason else ""
        threads = chosen or max(1, found.machine // ranks)  # as a rank chooses them
        if ranks > found.usable:
            if not found.has_devices:
                yield warning(
                    host,
                    f"{ranks} ranks share {found.usable} cores{because}",
                    f"start {found.usable} ranks there, or ask for more cores",
                )
        elif threads * ranks > found.usable:
            yield warning(
                host,
                f"{ranks} ranks of {threads} threads share {found.usable} cores{because}",
                f"set `engine.threads_per_rank = {share}`, or ask for more cores",
            )
        elif found.omp_threads is not None and found.omp_threads * ranks > found.usable:
            yield warning(
                host,
                f"{OMP}={found.omp_threads} for {ranks} ranks on {found.usable} cores{because}",
                f"unset {OMP}, or set it to {share}",
            )
