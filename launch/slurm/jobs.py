"""The jobs of a run: which were queued (OUTPUT/slurm/jobs.json), and what SLURM says of them.

jobs.json is {STAGE: job id}, written by submit.sh. SLURM forgets a job some minutes after its end
where it keeps no accounts; then only the files of the stage say what came of it.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launch.slurm.batch_files import JOBS
from runtime import provenance
from runtime.errors import DataError

COMMAND_SECONDS = 60.0
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
     "REVOKED", "TIMEOUT"}
)  # states that a job does not leave  # fmt: skip
# SLURM's own abbreviation of a long list ends in `...`.
ID = re.compile(r"(?P<job>\d+)(_(?P<one>\d+)|_\[(?P<some>\d+(-\d+)?(,\d+(-\d+)?)*)[^\]]*\])?")
FORGOTTEN = "FORGOTTEN"  # by SLURM, or it knows no such job
UNKNOWN = "UNKNOWN"  # SLURM is not here, or does not answer

# What is to come, of the states of an array's elements.
FIRST = ("RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "PENDING")


@dataclass(frozen=True)
class Job:
    """A job and its state."""

    id: str
    state: str  # as SLURM names it, or one of the two above
    reason: str | None = None  # why it waits
    elements: Mapping[int, str] = field(default_factory=dict)  # of an array: known states by number

    @property
    def is_active(self) -> bool:
        """True while it may still do something."""
        return self.state not in ENDED | {FORGOTTEN, UNKNOWN}

    def __str__(self) -> str:
        counts = Counter(self.elements.values())
        told = [f"{counts[state]} {in_words(state)}" for state in sorted(counts, key=place_of)]
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.id} {', '.join(told) or in_words(self.state)}{reason}"

    def element(self, number: int | None) -> "Job":
        """What is known of an element of an array; None: of what was done before it."""
        if number is None:
            return Job(self.id, FORGOTTEN)
        reason = self.reason if self.elements.get(number) == "PENDING" else None
        return Job(f"{self.id}_{number}", self.elements.get(number, FORGOTTEN), reason)


def in_words(state: str) -> str:
    """A state for people."""
    words = {FORGOTTEN: "no longer known", UNKNOWN: "state unknown: SLURM does not answer"}
    return words.get(state, state.lower().replace("_", " "))


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
    found = together(listed.splitlines())
    if missing := [job for job in ids.values() if job not in found]:
        told = said(
            *("sacct", "--noheader", "--parsable2", "--allocations", "--duplicates"),
            *(f"--jobs={','.join(missing)}", "--format=JobID,State"),
        )
        # A job that was queued again has several lines, the last one last.
        found |= {
            job: each for job, each in together((told or "").splitlines()).items() if job in missing
        }
    return {stage: found.get(job, Job(job, FORGOTTEN)) for stage, job in ids.items()}


def together(lines: Iterable[str]) -> dict[str, Job]:
    """Jobs by id, the elements of an array as one."""
    found: dict[str, Job] = {}
    for line in lines:
        job = of_line(line)
        if job is None:
            continue
        elements = {**found[job.id].elements, **job.elements} if job.id in found else job.elements
        if elements:
            state = min(elements.values(), key=place_of)
            reason = job.reason or (found[job.id].reason if job.id in found else None)
            job = Job(job.id, state, reason if state == "PENDING" else None, elements)
        found[job.id] = job
    return found


def place_of(state: str) -> int:
    """Of the states of elements the first is that of their array: something is to come, something
    has failed, all is done."""
    order = (*FIRST, "any other", "COMPLETED")
    return order.index(state if state in order else "any other")


def of_line(line: str) -> Job | None:
    """`41|PENDING|Dependency`, `41|CANCELLED by 1000`, `41_2|RUNNING|None`, `41_[3,5-7%2]|...`."""
    name, _, rest = line.partition("|")
    state, _, reason = rest.partition("|")
    matched = ID.fullmatch(name)
    if matched is None or not state:
        return None
    job, numbers = matched["job"], matched["one"] or matched["some"]
    is_waiting = state == "PENDING" and reason not in ("", "None")
    word = state.split()[0].rstrip("+")
    elements = {} if numbers is None else dict.fromkeys(numbers_of(numbers), word)
    return Job(job, word, reason if is_waiting else None, elements)


def numbers_of(text: str) -> list[int]:
    """`3,5-7` is 3, 5, 6 and 7."""
    bounds = [list(map(int, part.split("-"))) for part in text.split(",")]
    return [number for found in bounds for number in range(found[0], found[-1] + 1)]


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
