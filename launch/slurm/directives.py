"""The `#SBATCH` lines of a batch file.

sbatch reads them with rules of its own, which are not the shell's: in either kind of quotes a
backslash takes the meaning from the next character, white space ends a value that is not quoted, an
unquoted # begins a comment.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from runtime.slurm import SlurmJobs

PLAIN = re.compile(r"[A-Za-z0-9@%_+=:,./-]+")
LINE_BYTES = 8000  # sbatch cuts a value that is longer

Value = str | int | bool | None


def lines(options: dict[str, Value]) -> Iterator[str]:
    """One line an option; None and False are left out, True is an option without a value."""
    for name, value in options.items():
        if value is True:
            yield f"#SBATCH --{name}"
        elif value is not None and value is not False:
            yield f"#SBATCH --{name}={quoted(str(value))}"


def quoted(value: str) -> str:
    """A value as sbatch reads it back. Raises ValueError for one that no line can hold."""
    if not value.isprintable() or len(value.encode()) > LINE_BYTES:
        raise ValueError(f"cannot stand in a batch file: {value!r}")
    if PLAIN.fullmatch(value):
        return value
    inside = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inside}"'


def pattern(folder: Path, name: str) -> str:
    """A log file as sbatch names it: `name` may hold its patterns, the folder holds none."""
    return f"{str(folder).replace('%', '%%')}/{name}"


def of_every_job(
    name: str, stage: str, table: SlurmJobs, folder: Path, logs: Path
) -> dict[str, Value]:
    """Who the job belongs to, and what happens to its output and when it is interrupted."""
    return {
        "job-name": f"{name}-{stage}",
        "account": table.account,
        "qos": table.qos,
        "reservation": table.reservation,
        "time": getattr(table.minutes, stage),
        "mail-user": table.mail_user,
        "mail-type": ",".join(table.mail_type) if table.mail_user and table.mail_type else None,
        "requeue": table.requeues > 0,
        "no-requeue": table.requeues == 0,
        "open-mode": "append",
        "chdir": str(folder),
        "output": pattern(logs, f"{stage}-%j.log"),
    }


def of_ranks(table: SlurmJobs) -> dict[str, Value]:
    """What a job that trains needs; every rank is told to stop before the time limit."""
    gpus = f"{table.gpu_type}:{table.gpus_per_node}" if table.gpu_type else table.gpus_per_node
    return {
        "partition": table.partition,
        "constraint": table.constraint,
        "nodes": table.nodes,
        "ntasks-per-node": table.num_ranks_per_node,
        "gpus-per-node": gpus or None,
        "cpus-per-task": table.cpus_per_rank,
        "mem": None if table.memory_mb is None else f"{table.memory_mb}M",
        "exclusive": table.exclusive,
        "signal": f"USR1@{table.warn_seconds}",
    }


def of_data_prep(table: SlurmJobs) -> dict[str, Value]:
    """What data preparation needs; its batch script is told before the time limit."""
    memory = table.data_prep_memory_mb
    return {
        "partition": table.cpu_partition or table.partition,
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": table.data_prep_cpus,
        "mem": None if memory is None else f"{memory}M",
        "signal": f"B:USR1@{table.warn_seconds}",
    }


def of_array(table: SlurmJobs, count: int, logs: Path) -> dict[str, Value]:
    """What makes the fine-tuning job an array of tasks, each a job with a log of its own."""
    at_once = "" if table.finetune_at_once is None else f"%{table.finetune_at_once}"
    return {
        "array": f"0-{count - 1}{at_once}",
        "output": pattern(logs, "finetune-%A_%a.log"),
    }


def of_evaluate(table: SlurmJobs) -> dict[str, Value]:
    """What the page about the run needs."""
    return {"partition": table.cpu_partition or table.partition, "nodes": 1, "ntasks": 1}
