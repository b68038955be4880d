"""From the command line to what is examined: hosts, how they are reached, what the run needs."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launch.doctor import allocation, job
from launch.doctor.plan import Host, Job, Plan, Step
from launch.hosts import environment_file
from launch.hosts import hostfile as hostfiles
from launch.hosts.forwarding import forwarded
from launch.slurm import batch_files, containers
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
        with of_slurm(asked, found) as plan:
            yield plan
    elif hostfile is not None:
        named = None if found is None else found.launch.environment_file
        texts = [] if recipe is None else [recipe.read_text(encoding="utf-8")]
        yield of_hostfile(hostfile, named, texts, asked)
    else:
        slots = None if found is None else found.launch.ranks
        yield Plan((Host(socket.gethostname(), slots),), job=asked)


def of_hostfile(path: Path, named: Path | None, texts: list[str], asked: Job | None) -> Plan:
    """Hosts and variables as `textmill run` takes them; `texts` are the recipe, if there is one."""
    hosts = tuple(Host(host.name, host.slots) for host in hostfiles.read(path))
    sent = forwarded(os.environ, texts) | environment_file.read(named)
    return Plan(hosts, "ssh", environment=sent, job=asked)


@contextmanager
def of_slurm(asked: Job | None, recipe: Recipe | None) -> Iterator[Plan]:
    """The nodes of an allocation; none if there is no allocation to be had, which is a finding."""
    nodes = None if asked is None else asked.num_nodes
    partition = None if asked is None else asked.partition
    with allocation.allocated(nodes, partition) as found:
        hosts = found.hosts
        if asked is not None and asked.ranks_per_node is not None:
            hosts = tuple(replace(host, slots=asked.ranks_per_node) for host in hosts)
        plan = Plan(hosts, "srun", job=asked, allocation=found.job, reason=found.reason)
        if recipe is not None:
            plan = replace(plan, step=step_of(recipe), python=batch_files.interpreter(recipe))
        yield plan


def step_of(recipe: Recipe) -> Step:
    """How the jobs of this recipe come to their Python."""
    table, place = recipe.slurm, batch_files.place_of(recipe)
    inside = table.container, place.folders, place.work
    return Step(
        setup=table.setup,
        options=tuple(containers.srun_options(*inside)),
        prefix=tuple(containers.prefix(*inside, has_gpus=table.gpus_per_node > 0)),
    )
