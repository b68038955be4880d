"""The checkpoint that the run would continue can be read by every host, whole."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan
from runtime import retention, stages

MANIFEST = "MANIFEST.json"


def applies(plan: Plan) -> bool:
    return plan.job is not None


@dataclass(frozen=True)
class Seen:
    newest: dict[str, str | None]  # path of each stage's newest checkpoint: what is wrong with it


def look(asked: Asked) -> Seen:
    """Names and sizes only: hashes are compared at the start of the run."""
    assert asked.plan.job is not None
    folder = stages.folder(Path(asked.plan.job.output), "pretrain") / "checkpoints"
    steps = retention.steps(folder)
    newest = [retention.path_of(folder, step) for step in steps[-1:]]
    return Seen({str(path): fault_of(path) for path in newest})


def fault_of(path: Path) -> str | None:
    """Why the files are not those of the manifest."""
    try:
        listed = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, facts in listed.items():
            file = path / name
            size = file.stat().st_size
            if size != facts["bytes"]:
                return f"{name} has {size} bytes, its manifest says {facts['bytes']}"
            if not os.access(file, os.R_OK):
                return f"{name} may not be read by this user"
    except OSError as error:
        return f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    return None


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        for path, problem in found.newest.items():
            if problem is not None:
                yield fault(
                    host,
                    f"{path}: {problem}",
                    "give the files to the user of the run (`chown -R`); if it is damaged, the run "
                    "will take the checkpoint before it",
                )
    newest = {host: list(found.newest) for host, found in seen.items()}
    ahead = max(newest.values(), default=[])
    for host, paths in newest.items():
        if paths != ahead:
            yield fault(
                host,
                f"it sees {paths[0] if paths else 'no checkpoint'}, other hosts see {ahead[0]}",
                "mount the same file system there",
            )
