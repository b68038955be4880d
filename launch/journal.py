"""What `textmill run` notes about a run, so that `textmill status` can tell it from outside.

output/launch.json: {"recipe", "overrides", "host", "stages": {STAGE: {"state", "pid", "started",
"ended", "exit_code", "restarts"}}}. States: running, done, failed, stopped. "running" is only
believed while that process is alive. The stages themselves never read this file.
"""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from runtime import provenance
from runtime.errors import DataError
from runtime.redaction import redacted

FILE = "launch.json"
State = Literal["running", "done", "failed", "stopped", "lost"]


@dataclass
class Entry:
    """The last start of one stage."""

    state: State
    pid: int  # of `textmill run`
    started: float  # Unix seconds
    ended: float | None = None
    exit_code: int | None = None
    restarts: int = 0  # after a lost rank, by `textmill run` itself


@dataclass
class Journal:
    """The starts of the stages of one run."""

    recipe: str
    overrides: list[str]
    host: str = field(default_factory=socket.gethostname)
    stages: dict[str, Entry] = field(default_factory=dict)


def state_of(journal: Journal, stage: str) -> State | None:
    """What became of a stage; "lost" if its process is gone without a word; None: never started."""
    entry = journal.stages.get(stage)
    if entry is None:
        return None
    elsewhere = journal.host != socket.gethostname()
    if entry.state == "running" and not (elsewhere or is_alive(entry)):
        return "lost"
    return entry.state


def is_alive(entry: Entry) -> bool:
    """True while the process that wrote the entry runs (a later one may have got its id)."""
    try:
        return bool(psutil.Process(entry.pid).create_time() <= entry.started)
    except psutil.NoSuchProcess:
        return False


def read(output: Path) -> Journal | None:
    """The journal of a run; None if `textmill run` never ran there."""
    path = output / FILE
    if not path.is_file():
        return None
    found: dict[str, Any] = provenance.read_json(path)
    try:
        stages = {stage: Entry(**entry) for stage, entry in found.pop("stages").items()}
        return Journal(**found, stages=stages)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not what `textmill run` writes ({error}); remove it") from None


def write(output: Path, journal: Journal) -> None:
    provenance.write_json(output / FILE, asdict(journal))


def begin(recipe: Path, overrides: Sequence[str], output: Path) -> Journal:
    """Continue the journal of a folder under today's command."""
    found = read(output)
    shown = [redacted(override, os.environ) for override in overrides]
    return Journal(str(recipe), shown, stages=found.stages if found else {})


def now() -> float:
    return round(time.time(), 3)
