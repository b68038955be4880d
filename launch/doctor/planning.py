"""From the command line to what is examined: hosts, how they are reached, what the run needs."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launch.doctor import allocation, job
from launch.doctor.plan import Host, Job, Plan
from launch.hosts import environment_file
from launch.hosts import hostfile as hostfiles
from runtime.config import Recipe
from runtime.recipe import load


@contextmanager
def planned(recipe: Path | None, hostfile: Path | None, slurm: bool) -> Iterator[Plan]:
    """What is to be examined. Raises RecipeError for a recipe or hostfile that cannot work.

    Without an option the recipe's launcher says where to look.
    """
    found = None if recipe is None else load(recipe, (), Recipe)
    asked = None if recipe is None or found is None else job.job_of(recipe, found)
    if found is not None and hostfile is None and not slurm:
        slurm = found.launch.launcher == "slurm"
        hostfile = found.launch.hostfile if found.launch.launcher == "deepspeed" else None
    if slurm:
        with of_slurm(asked) as plan:
            yield plan
    elif hostfile is not None:
        named = None if found is None else found.launch.environment_file
        yield of_hostfile(hostfile, named, asked)
    else:
        slots = None if found is None else found.launch.ranks
        yield Plan((Host(socket.gethostname(), slots),), job=asked)


def of_hostfile(path: Path, named: Path | None, asked: Job | None) -> Plan:
    """Hosts and variables as `textmill run` takes them."""
    hosts = tuple(Host(host.name, host.slots) for host in hostfiles.read(path))
    return Plan(hosts, "ssh", environment=environment_file.read(named), job=asked)


@contextmanager
def of_slurm(asked: Job | None) -> Iterator[Plan]:
    """The nodes of an allocation; none if there is no allocation to be had, which is a finding."""
    nodes = None if asked is None else asked.num_nodes
    partition = None if asked is None else asked.partition
    with allocation.allocated(nodes, partition) as found:
        hosts = found.hosts
        if asked is not None and asked.ranks_per_node is not None:
            hosts = tuple(replace(host, slots=asked.ranks_per_node) for host in hosts)
        plan = Plan(hosts, "srun", job=asked, allocation=found.job)
        yield replace(plan, reason=found.reason)
