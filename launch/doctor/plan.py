"""What is examined: the hosts, how they are reached, and what the run will ask of them."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Reached = Literal["here", "ssh", "srun"]


@dataclass(frozen=True)
class Host:
    """A machine of the run."""

    name: str
    slots: int | None = None  # ranks it is to have; None: nobody has said


@dataclass(frozen=True)
class Batch:
    """A batch that must be shared out evenly over the ranks."""

    key: str  # in the recipe
    global_size: int
    micro_size: int


@dataclass(frozen=True)
class Step:
    """How a step of SLURM comes to its Python, as `[slurm]` says."""

    setup: tuple[str, ...] = ()  # lines of bash before it
    options: tuple[str, ...] = ()  # of srun, for a container that it makes
    prefix: tuple[str, ...] = ()  # a command that enters a container


@dataclass(frozen=True)
class Job:
    """What a recipe asks for."""

    recipe: str  # absolute path of its file
    output: str  # absolute
    ds_config: str
    threads_per_rank: int | None
    batches: tuple[Batch, ...]
    disk_bytes: int  # that checkpoints and exports will take; 0: not known
    num_nodes: int | None  # asked of SLURM; None: nobody has said
    num_devices: int | None  # asked of SLURM for each node
    ranks_per_node: int | None  # of a job of SLURM
    partition: str | None  # of SLURM, in which ranks run; several have commas between them
    limits: dict[str, dict[str, int]]  # partition ("": the default): minutes by key of the recipe


@dataclass(frozen=True)
class Plan:
    """The whole examination."""

    hosts: tuple[Host, ...]
    reached: Reached = "here"
    folder: str = field(default_factory=os.getcwd)  # from which ranks are started
    python: str = sys.executable
    step: Step = field(default_factory=Step)
    environment: dict[str, str] = field(default_factory=dict)  # that ranks get on every host
    job: Job | None = None
    allocation: str | None = None  # SLURM job in which steps are started
    reason: str | None = None  # why there are no hosts, where there are none

    @property
    def is_many(self) -> bool:
        return len(self.hosts) > 1

    @property
    def first(self) -> str:
        """The host of rank 0."""
        return self.hosts[0].name

    @property
    def num_ranks(self) -> int | None:
        """Of the whole run; None where a host's are not known."""
        slots = [host.slots for host in self.hosts]
        return None if None in slots else sum(slot or 0 for slot in slots)

    @property
    def variables(self) -> str:
        """Where a user sets variables of ranks, in words."""
        places = {"here": "the environment", "ssh": "the environment file", "srun": "slurm.setup"}
        return places[self.reached]

    def slots(self, name: str) -> int | None:
        return next(host.slots for host in self.hosts if host.name == name)

    def to_json(self) -> dict[str, Any]:
        """Without the values of the environment, which the probes have: they may be secrets."""
        return asdict(self) | {"environment": dict.fromkeys(self.environment, "")}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Self:
        job = found["job"]
        if job is not None:
            job = Job(**job | {"batches": tuple(Batch(**batch) for batch in job["batches"])})
        hosts = tuple(Host(**host) for host in found["hosts"])
        step = Step(**{name: tuple(words) for name, words in found["step"].items()})
        return cls(**{**found, "hosts": hosts, "step": step, "job": job})


@dataclass(frozen=True)
class Asked:
    """What a check's `look` is told on a host."""

    host: str  # its name in the plan
    plan: Plan

    @property
    def slots(self) -> int | None:
        return self.plan.slots(self.host)
