"""/dev/shm is large enough: containers get 64 MB of it unless told otherwise."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault, warning
from launch.doctor.plan import Asked, Plan

FOLDER = "/dev/shm"
RANK_BYTES = 64 << 20  # NCCL's buffers between the ranks of a host, generously


@dataclass(frozen=True)
class Seen:
    free: int | None  # bytes; None: it is not there
    total: int
    has_devices: bool


def look(asked: Asked) -> Seen:
    has_devices = os.path.exists("/dev/nvidiactl")
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return Seen(None, 0, has_devices)
    return Seen(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, has_devices)


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        needed = RANK_BYTES * max(2, plan.slots(host) or 0)
        level = fault if found.has_devices else warning
        if found.free is None:
            yield level(host, f"{FOLDER} does not exist", f"`mount -t tmpfs none {FOLDER}` on it")
        elif found.free < needed:
            yield level(
                host,
                f"{FOLDER} has {found.free >> 20} of {found.total >> 20} MiB free, ranks may need "
                f"{needed >> 20} MiB",
                f"`mount -o remount,size=8G {FOLDER}` on it, or start its container with "
                "`--ipc=host` or `--shm-size=8g`",
            )
