"""The jobs of a run: which were queued (OUTPUT/slurm/jobs.json), and what SLURM says of them.

jobs.json is {STAGE: job id}, written by submit.sh. SLURM forgets a job some minutes after its end
where it keeps no accounts; then only the files of the stage say what came of it.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.slurm.batch_files import JOBS
from runtime import provenance
from runtime.errors import DataError

COMMAND_SECONDS = 60.0
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
     "REVOKED", "TIMEOUT"}
)  # states that a job does not leave  # fmt: skip
FORGOTTEN = "FORGOTTEN"  # by SLURM, or it knows no such job
UNKNOWN = "UNKNOWN"  # SLURM is not here, or does not answer


@dataclass(frozen=True)
class Job:
    """A job and its state."""

    id: str
    state: str  # as SLURM names it, or one of the two above
    reason: str | None = None  # why it waits

    @property
    def is_active(self) -> bool:
        """True while it may still do something."""
        return self.state not in ENDED | {FORGOTTEN, UNKNOWN}

    def __str__(self) -> str:
        words = {FORGOTTEN: "no longer known", UNKNOWN: "state unknown: SLURM does not answer"}
        state = words.get(self.state, self.state.lower().replace("_", " "))
        return f"{self.id} {state}" + (f" ({self.reason})" if self.reason else "")


def noted(output: Path) -> dict[str, str]:
    """The job of each stage that was queued last. Raises DataError for a damaged file."""
    path = output / "slurm" / JOBS
    if not path.is_file():
        return {}
    found = provenance.read_json(path)
    if not isinstance(found, dict) or not all(str(job).isdigit() for job in found.values()):
        raise DataError(
            f"{path} should say which jobs were submitted ({json.dumps(found)[:80]}); remove it if "
            "none is in the queue"
        )
    return {str(stage): str(job) for stage, job in found.items()}


def submitted_at(output: Path) -> float:
    """When the jobs were submitted, in Unix seconds; 0 if none were."""
    path = output / "slurm" / JOBS
    return path.stat().st_mtime if path.is_file() else 0.0


def of_run(output: Path) -> dict[str, Job]:
    """The jobs of a run by stage, as SLURM knows them now."""
    return states(noted(output))


def states(ids: Mapping[str, str]) -> dict[str, Job]:
    """Ask squeue, then sacct for those that have left the queue."""
    if not ids:
        return {}
    wanted = ",".join(ids.values())
    listed = said("squeue", "--noheader", "--states=all", f"--jobs={wanted}", "--format=%i|%T|%r")
    if listed is None:
        return {stage: Job(job, UNKNOWN) for stage, job in ids.items()}
    found = {job.id: job for job in map(of_line, listed.splitlines()) if job is not None}
    if missing := [job for job in ids.values() if job not in found]:
        told = said(
            *("sacct", "--noheader", "--parsable2", "--allocations", "--duplicates"),
            *(f"--jobs={','.join(missing)}", "--format=JobID,State"),
        )
        for line in (told or "").splitlines():  # a job queued again has several, the last one last
            if (job := of_line(line)) is not None and job.id in missing:
                found[job.id] = job
    return {stage: found.get(job, Job(job, FORGOTTEN)) for stage, job in ids.items()}


def of_line(line: str) -> Job | None:
    """`41|PENDING|Dependency`, `41|CANCELLED by 1000`."""
    job, _, rest = line.partition("|")
    state, _, reason = rest.partition("|")
    if not job.isdigit() or not state:
        return None
    is_waiting = state == "PENDING" and reason not in ("", "None")
    return Job(job, state.split()[0].rstrip("+"), reason if is_waiting else None)


def said(program: str, *arguments: str) -> str | None:
    """What a command of SLURM prints; None if it is not here or fails for want of an answer."""
    try:
        ended = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if ended.returncode and "Invalid job id" not in ended.stderr:
        return None
    return ended.stdout
