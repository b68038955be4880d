"""Code that is compiled during a run can be loaded: where it is put, the mount may say noexec."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.doctor.finding import Finding, fault, warning
from launch.doctor.plan import Asked, Plan

EXTENSIONS = "TORCH_EXTENSIONS_DIR"


@dataclass(frozen=True)
class Seen:
    temporary: str
    is_executable: bool
    extensions: str | None  # folder of compiled extensions, if one is set
    is_loadable: bool


def look(asked: Asked) -> Seen:
    temporary, extensions = tempfile.gettempdir(), os.environ.get(EXTENSIONS)
    return Seen(
        temporary,
        allows_execution(Path(temporary)),
        extensions,
        extensions is None or allows_execution(Path(extensions)),
    )


def allows_execution(folder: Path) -> bool:
    """As its mount says, or that of the folder in which it would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return not os.statvfs(folder).f_flag & os.ST_NOEXEC


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        if not found.is_loadable:
            yield fault(
                host,
                f"{EXTENSIONS}={found.extensions} is mounted noexec: what is built there cannot be "
                "loaded",
                f"`mount -o remount,exec` it, or set {EXTENSIONS} to another folder",
            )
        if not found.is_executable:
            yield warning(
                host,
                f"{found.temporary} is mounted noexec: torch.compile and Triton fail there",
                f"`mount -o remount,exec {found.temporary}` on it, or set TMPDIR in "
                f"{plan.variables}",
            )
