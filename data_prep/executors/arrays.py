"""Job arrays of SLURM by its own commands: submit, watch, cancel, and find those of a killed run.

Nothing a user wrote reaches a shell unquoted: commands are lists of arguments, and the batch script
is one `exec` line of quoted words on standard input. An array is named after its work folder, so a
later run on the same folder finds it without a record that could be lost.
"""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import xxhash

from runtime.config import Slurm
from runtime.errors import DataError, RecipeError

SPOOL = "slurm"  # in a work folder, while arrays may exist
OURS = frozenset(
    {"array", "chdir", "error", "export", "job-name", "open-mode", "output", "parsable", "wrap"}
)  # options of sbatch that recipes may not set
OVER = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
     "PREEMPTED", "REVOKED", "TIMEOUT"}
)  # states a task does not leave  # fmt: skip
COMMAND_SECONDS = 60.0
CANCEL_SECONDS = 120.0  # for cancelled tasks to be gone


def submit(table: Slurm, name: str, count: int, command: Sequence[str], log: Path) -> str:
    """Queue an array of `count` tasks that each run `command`, here; return its job id.

    Tasks get the environment of this process. `%a` in `log` stands for the number of the task.
    """
    arguments = [
        f"--job-name={name}",
        f"--array=0-{count - 1}",
        f"--chdir={os.getcwd()}",
        f"--output={str(log.parent).replace('%', '%%')}/{log.name}",
        "--open-mode=append",
        "--export=ALL",
        "--requeue",
        "--parsable",
        f"--cpus-per-task={table.cpus_per_worker}",
        *options(table),
    ]
    script = f"#!/bin/sh\nexec {shlex.join(command)}\n"
    return ask("sbatch", *arguments, script=script).strip().split(";")[0]


def options(table: Slurm) -> list[str]:
    """What the recipe asks of sbatch. Raises RecipeError for an option that is ours to set."""
    taken = sorted(OURS & set(table.options))
    if taken:
        raise RecipeError(
            f"launch.slurm.options sets {', '.join(taken)}, which Textmill sets itself; remove it"
        )
    known = {
        "partition": table.partition,
        "account": table.account,
        "time": table.time_minutes,
        "mem": None if table.memory_mb is None else f"{table.memory_mb}M",
    }
    told = {name: value for name, value in known.items() if value is not None} | table.options
    return [f"--{name}={value}" for name, value in told.items()]


def max_count() -> int:
    """The most tasks an array may have on this cluster."""
    for line in ask("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return int(value)
    return 1000


def states(job: str) -> dict[str, str] | None:
    """State of each task of an array, also of those that have ended lately; None if SLURM does not
    answer."""
    try:
        listed = ask(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%K %T"
        )
    except DataError as error:
        return {} if "Invalid job id" in str(error) else None
    words = listed.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def is_over(found: dict[str, str] | None) -> bool:
    return found is not None and all(state in OVER for state in found.values())


def name_of(folder: Path) -> str:
    """The name of all arrays that work on a folder."""
    return f"textmill-{xxhash.xxh3_64_hexdigest(os.fsencode(folder.resolve()))}"


def cancel(name: str) -> None:
    """Cancel our arrays of this name and wait until none of their tasks runs. Raises DataError."""
    deadline = time.monotonic() + CANCEL_SECONDS
    pause = 0.05
    while jobs := sorted(set(waiting_or_running(name))):
        dismiss(*jobs)
        if time.monotonic() > deadline:
            raise DataError(
                f"SLURM job {', '.join(jobs)} works on the same folder and does not end; cancel it "
                "(scancel), then run the same command again"
            )
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def dismiss(*jobs: str) -> None:
    """Cancel arrays; those already over are no error."""
    ask("scancel", "--quiet", *jobs)


def waiting_or_running(name: str) -> list[str]:
    return ask("squeue", "--me", "--noheader", f"--name={name}", "--format=%A").split()


def end_orphans(folder: Path) -> None:
    """Cancel what a killed run has left in the queue for a work folder. Raises DataError.

    Only the holder of the folder's lock may call it: whose arrays these are is told by their name.
    """
    if (folder / SPOOL).exists():
        cancel(name_of(folder))
        shutil.rmtree(folder / SPOOL)


def ask(program: str, *arguments: str, script: str | None = None) -> str:
    """What a command of SLURM prints. Raises DataError with what it says when it fails."""
    # Set inside a job, these would be taken as options of the jobs it submits.
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("SLURM_") or key == "SLURM_CONF"
    }
    try:
        ended = subprocess.run(
            [program, *arguments],
            input=script,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    except FileNotFoundError:
        raise DataError(
            f"the command {program} is not here; run this on a machine of the cluster, or set "
            'launch.executor = "local"'
        ) from None
    except subprocess.TimeoutExpired:
        raise DataError(f"{program} has not answered in {COMMAND_SECONDS:.0f} s") from None
    if ended.returncode:
        raise DataError(f"{shlex.join([program, *arguments])} failed: {ended.stderr.strip()}")
    return ended.stdout
