"""The SLURM job in which the doctor looks at nodes: the one it runs in, or a short one of its own.

A job of its own asks for idle nodes only and gives them back at once, so it delays nobody.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from launch.doctor.plan import Host

IMMEDIATE_SECONDS = 20  # to be given the nodes
COMMAND_SECONDS = 60.0
MINUTES = 10  # limit of a job of our own
GRANTED = re.compile(r"Granted job allocation (\d+)")
GROUP = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True)
class Allocation:
    """Nodes that steps can be started on; without nodes, `reason` says why."""

    job: str | None
    hosts: tuple[Host, ...]
    reason: str | None = None


@contextmanager
def allocated(num_nodes: int | None, partition: str | None) -> Iterator[Allocation]:
    """The job this process runs in; else one of its own, which ends with the block."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None:
        tasks = tasks_of(os.environ.get("SLURM_TASKS_PER_NODE", ""))
        names = hostnames(os.environ["SLURM_JOB_NODELIST"])
        slots = tasks if len(tasks) == len(names) else [None] * len(names)
        yield Allocation(job, tuple(map(Host, names, slots)))
        return
    allocation = begin(num_nodes, partition)
    try:
        yield allocation
    finally:
        if allocation.job is not None:
            said("scancel", allocation.job)


def begin(num_nodes: int | None, partition: str | None) -> Allocation:
    """Ask for idle nodes: as many as the run takes, or all that are idle."""
    chosen = [] if partition is None else [f"--partition={partition}"]
    try:
        if num_nodes is None:
            told = said("sinfo", "--noheader", "--Node", "--format=%N %T", *chosen).stdout
            # Not by --states=idle, which counts drained nodes in.
            idle = {line.split()[0] for line in told.splitlines() if line.endswith(" idle")}
            num_nodes = len(idle)
        if num_nodes == 0:
            return Allocation(None, (), "no node is idle")
        asked = said(
            *("salloc", "--no-shell", f"--immediate={IMMEDIATE_SECONDS}", f"--nodes={num_nodes}"),
            *("--exclusive", "--mem=0", f"--time={MINUTES}", "--job-name=textmill-doctor"),
            *chosen,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Allocation(None, (), str(error))
    granted = GRANTED.search(asked.stderr)
    if asked.returncode or granted is None:
        return Allocation(None, (), last_line(asked.stderr))
    job = granted.group(1)
    nodes = said("squeue", "--noheader", f"--jobs={job}", "--format=%N").stdout.strip()
    return Allocation(job, tuple(map(Host, hostnames(nodes))))


def hostnames(nodes: str) -> list[str]:
    """The names in SLURM's compact list, such as `node-[01-04]`."""
    return said("scontrol", "show", "hostnames", nodes).stdout.split()


def tasks_of(text: str) -> list[int | None]:
    """SLURM_TASKS_PER_NODE by node: `8(x2),4` means 8, 8 and 4."""
    groups = (GROUP.fullmatch(part) for part in text.split(","))
    return [int(group[1]) for group in groups if group for _ in range(int(group[2] or 1))]


def said(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM. Raises OSError if it is not there, TimeoutExpired."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason was given"])[-1]
