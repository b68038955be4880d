"""Where trials run: what there is, divided into as many places as trials run at a time.

One place holds one trial at a time and is a part of
    this machine    `launch.ranks` ranks, over its GPUs if it has any, else over its cores
    a hostfile      its slots, in order; a trial's ranks are started by ssh
    an allocation   of SLURM: its tasks; each trial is a job step of its own (`srun --exclusive`)
A share that cannot be whole is refused; slots that are left over stay idle. Imports neither torch
nor optuna.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from finetune.config import Recipe
from launch.hosts import environment_file, forwarding, hostfile
from launch.hosts.nodes import Node
from runtime.errors import RecipeError


@dataclass(frozen=True)
class Seat:
    """Where one rank runs."""

    host: str | None  # None: here
    device: str | None  # GPU, as CUDA_VISIBLE_DEVICES names it


@dataclass(frozen=True)
class Step:
    """A part of a SLURM allocation."""

    nodes: int
    tasks: int
    cpus_per_task: int | None
    gpus_per_node: int | None


@dataclass(frozen=True)
class Place:
    """Room for one trial at a time."""

    number: int
    name: str  # for people
    threads: int  # CPU threads of a rank
    seats: tuple[Seat, ...] = ()  # one a rank
    step: Step | None = None  # in place of seats
    sent: dict[str, str] = field(default_factory=dict, repr=False)  # to ranks on other machines

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its seats by machine."""
        found, rank = [], 0
        for host, group in groupby(self.seats, lambda seat: seat.host):
            devices = [seat.device for seat in group]
            gpus = tuple(device for device in devices if device is not None)
            found.append(Node(host, rank, len(devices), gpus))
            rank += len(devices)
        return tuple(found)


def of(recipe: Recipe, hosts: Path | None, environment: Mapping[str, str]) -> list[Place]:
    """The places of a search; `hosts` is a hostfile. Raises RecipeError if they cannot be
    divided."""
    parallel = recipe.search.parallel
    if hosts is None and recipe.launch.launcher == "slurm":
        return slurm_places(environment, parallel)
    if hosts is not None or recipe.launch.launcher == "deepspeed":
        sent = forwarding.forwarded(environment)
        sent |= environment_file.read(recipe.launch.environment_file)
        path = hosts or recipe.launch.hostfile or Path("hostfile")
        return host_places(path, parallel, sent)
    return local_places(recipe.launch.ranks, parallel, devices(environment), num_cores())


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def devices(environment: Mapping[str, str]) -> list[str]:
    """The GPUs of this machine that this process may use, by the names CUDA knows them by."""
    if environment.get("DS_ACCELERATOR") == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    found = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")]
    return sorted(found, key=int)


def local_places(ranks: int, parallel: int, gpus: Sequence[str], cores: int) -> list[Place]:
    """This machine in parts: ranks are divided, GPUs given one to a rank, cores in equal parts."""
    ranks = max(1, ranks // parallel)
    needed = ranks * parallel
    if gpus and needed > len(gpus):
        raise RecipeError(
            f"search.parallel = {parallel} with {ranks} rank(s) a trial needs {needed} GPUs; there "
            f"are {len(gpus)}: lower search.parallel or launch.ranks"
        )
    if not gpus and needed > cores:
        raise RecipeError(
            f"search.parallel = {parallel} with {ranks} rank(s) a trial needs {needed} cores; "
            f"there are {cores}: lower search.parallel or launch.ranks"
        )
    threads = max(1, cores // needed)
    found = []
    for number in range(parallel):
        own = gpus[number * ranks : (number + 1) * ranks]
        name = f"GPU {','.join(own)}" if gpus else f"{ranks} x {threads} threads"
        seats = tuple(Seat(None, own[rank] if own else None) for rank in range(ranks))
        found.append(Place(number, name, threads, seats))
    return found


def host_places(path: Path, parallel: int, sent: dict[str, str]) -> list[Place]:
    """The slots of a hostfile in parts, host after host."""
    hosts = hostfile.read(path)
    seats = [Seat(host.name, str(slot)) for host in hosts for slot in range(host.slots)]
    ranks = len(seats) // parallel
    if ranks == 0:
        raise RecipeError(
            f"search.parallel = {parallel} needs as many slots; {path} has {len(seats)}: lower "
            "search.parallel or add hosts"
        )
    parts = [tuple(seats[i * ranks : (i + 1) * ranks]) for i in range(parallel)]
    # Hosts are taken to be like this one.
    threads = max(1, num_cores() // max(host.slots for host in hosts))
    return [
        Place(
            number,
            " ".join(f"{seat.host}:{seat.device}" for seat in part),
            threads,
            part,
            sent=sent,
        )
        for number, part in enumerate(parts)
    ]


def slurm_places(environment: Mapping[str, str], parallel: int) -> list[Place]:
    """The allocation this process runs in, in parts."""
    if "SLURM_JOB_NODELIST" not in environment:
        raise RecipeError(
            'launch.launcher = "slurm": the search must run inside an allocation '
            "(SLURM_JOB_NODELIST is not set); start it from a batch script or salloc"
        )
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    tasks = int(environment.get("SLURM_NTASKS", str(nodes)))
    per_node = max(1, tasks // nodes)
    own = tasks // parallel
    if own > per_node:
        own -= own % per_node  # whole nodes
    if own == 0:
        raise RecipeError(
            f"search.parallel = {parallel} needs as many tasks; the allocation has {tasks}: lower "
            "search.parallel or ask for more (--ntasks)"
        )
    step = Step(
        math.ceil(own / per_node),
        own,
        int(environment["SLURM_CPUS_PER_TASK"]) if "SLURM_CPUS_PER_TASK" in environment else None,
        gpus_of_step(environment, per_node, own),
    )
    name = f"{step.nodes} node(s), {own} task(s)"
    return [Place(i, name, step.cpus_per_task or 1, step=step) for i in range(parallel)]


def gpus_of_step(environment: Mapping[str, str], per_node: int, tasks: int) -> int | None:
    """GPUs a step takes of each of its nodes; all of its tasks there see them all."""
    if "SLURM_GPUS_ON_NODE" not in environment:
        return None
    return int(environment["SLURM_GPUS_ON_NODE"]) // per_node * min(tasks, per_node)
