"""Memory for the ranks, under whatever limit a container or a SLURM job sets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

from launch.doctor import cgroup
from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

RANK_BYTES = 1 << 30  # of a rank before its model: torch, transformers and DeepSpeed


@dataclass(frozen=True)
class Seen:
    total: int  # bytes of the machine
    available: int  # that can be had without swapping
    allowed: int | None  # that the control group leaves; None: no limit


def look(asked: Asked) -> Seen:
    found = psutil.virtual_memory()
    return Seen(found.total, found.available, cgroup.free_memory())


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        ranks = plan.slots(host) or 1
        needed = RANK_BYTES * ranks
        of_ranks = f"{ranks} ranks begin with about {gib(needed)}"
        if found.available < needed:
            yield fault(
                host,
                f"{gib(found.available)} of {gib(found.total)} memory are available, {of_ranks}",
                "end what else runs there (`ps aux --sort=-rss | head`), or start fewer ranks",
            )
        elif found.allowed is not None and found.allowed < needed:
            yield fault(
                host,
                f"a control group leaves {gib(found.allowed)} of {gib(found.total)} memory, "
                f"{of_ranks}",
                "ask for more: `sbatch --mem`, `docker run --memory`, or MemoryMax of the unit",
            )


def gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
