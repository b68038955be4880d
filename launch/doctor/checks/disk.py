"""Room for what the run will write, in bytes and in files."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.doctor.checks.shared import folder_of
from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan
from runtime.retention import megabytes

OUTPUT_BYTES = 10**9  # where no recipe says how much
TEMPORARY_BYTES = 10**8
FILES = 1000


@dataclass(frozen=True)
class Seen:
    output: dict[str, int | str]
    temporary: dict[str, int | str]


def look(asked: Asked) -> Seen:
    return Seen(room(folder_of(asked)), room(Path(tempfile.gettempdir())))


def room(folder: Path) -> dict[str, int | str]:
    """Bytes and files that an ordinary user may still write there; -1 files: no limit."""
    found = os.statvfs(folder)
    return {
        "folder": str(folder),
        "bytes": found.f_bavail * found.f_frsize,
        "files": found.f_favail if found.f_files else -1,
    }


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    needed = max(OUTPUT_BYTES, plan.job.disk_bytes if plan.job else 0)
    for host, found in seen.items():
        is_same = found.output == found.temporary
        yield from judge_room(
            host, found.output, needed, "`checkpoint.keep_last` lower, or another `output`"
        )
        if not is_same:
            yield from judge_room(
                host, found.temporary, TEMPORARY_BYTES, f"another TMPDIR in {plan.variables}"
            )


def judge_room(
    host: str, room: Mapping[str, int | str], needed: int, other: str
) -> Iterator[Finding]:
    folder, free, files = str(room["folder"]), int(room["bytes"]), int(room["files"])
    if free < needed:
        yield fault(
            host,
            f"{folder} has {megabytes(free)} free, {megabytes(needed)} will be needed",
            f"free space (`du -xh --max-depth=2 {folder} | sort -h`), or set {other}",
        )
    if 0 <= files < FILES:
        yield fault(
            host,
            f"the file system of {folder} can hold only {files} more files",
            f"delete small files (`du --inodes -x --max-depth=2 {folder} | sort -n`), or set "
            f"{other}",
        )
