"""The environment of a rank, put together on its machine."""

import os
from collections.abc import Mapping
from pathlib import Path

from launch.hosts.environment_file import OF_A_RANK
from launch.hosts.surroundings import interface_to
from runtime import starting

INTERFACE = "GLOO_SOCKET_IFNAME"  # of what talks between CPUs; NCCL finds its own


def environment_of(
    identity: Mapping[str, str],
    local_ranks: int,
    cache: str,
    threads: int | None,
    sent: Mapping[str, str],
    other_address: str | None,
) -> dict[bytes, bytes]:
    """As bytes: what was sent arrives as it was, whatever encoding this machine has.

    A later one goes before an earlier: our defaults, what the machine (or whoever started the run
    on this one) has set, what was sent, what tells the rank who it is. `cache` is for DeepSpeed's
    builds, `threads` of a rank (None: cores divided by its ranks), `other_address` of the first
    host if there are several.
    """
    cores = len(os.sched_getaffinity(0))
    defaults = starting.variables(Path(cache))
    defaults |= starting.rank_variables(threads or max(1, cores // local_ranks))
    own = {
        name: value
        for name, value in os.environb.items()
        if name.decode("utf-8", "surrogateescape") not in OF_A_RANK | {"MASTER_ADDR"}
    }
    found = encoded(defaults) | own | encoded(sent) | encoded(identity)
    if other_address is not None and INTERFACE.encode() not in found:
        name = interface_to(other_address)
        found |= encoded({} if name is None else {INTERFACE: name})
    return found


def encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {
        name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape")
        for name, value in variables.items()
    }
