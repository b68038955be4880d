"""How a checkpoint vouches for itself: sizes and hashes of its files, and of the manifest too.

    MANIFEST.json   {"format", "version", ..., "files": {NAME: {"bytes", "hash"}},
                     "fingerprint": of all the rest}

The manifest is compared byte by byte with what its writer would make of its values, so that any
change of it shows; the other files by size and XXH3 hash. Files of tensors that are not listed are
faults as well: DeepSpeed finds some by pattern. Nothing is unpickled here.

Not damage, and therefore an error rather than a reason to take an older checkpoint: a format this
version does not read, and files this user must not read.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import processes, provenance, retention
from runtime.errors import DataError
from runtime.watchdog.activity import activity

MANIFEST = "MANIFEST.json"
FORMAT = "textmill-checkpoint"
# 1: fingerprints of tables instead of the identity itself, shorter positions. 2: no fingerprint.
VERSION = 3
FIRST_SIGNED = 3
TENSORS = "*.pt"


@dataclass(frozen=True)
class Fault:
    """Why a checkpoint cannot be used."""

    text: str
    is_damage: bool = True  # an older checkpoint may be used instead


def sealed(path: Path) -> dict[str, Any]:
    """Make a file survive a power loss; its size and hash."""
    activity.tick()
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return {"bytes": path.stat().st_size, "hash": provenance.file_fingerprint(path)}


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a checkpoint, with the fingerprint of all it says."""
    provenance.write_json(folder / MANIFEST, provenance.signed(facts))


def first_fault(path: Path) -> str | None:
    """Why a checkpoint is damaged, None if it is sound: the same on all ranks, which share its
    files. Raises DataError on all of them for what is no damage. All ranks call it."""
    try:
        fault = own_fault(path)
    except PermissionError as error:
        fault = Fault(
            f"{error.filename} cannot be read ({error.strerror}); run as the user who wrote it, or "
            "let this one read it",
            is_damage=False,
        )
    except OSError as error:
        fault = Fault(f"{error.filename or path} cannot be read ({error.strerror or error})")
    found = [fault for fault in processes.gather(fault) if fault is not None]
    for fault in found:
        if not fault.is_damage:
            raise DataError(fault.text)
    return found[0].text if found else None


def own_fault(path: Path) -> Fault | None:
    """What is wrong with the manifest or with this rank's share of the files."""
    fault = manifest_fault(path)
    if fault is not None:
        return fault
    listed = provenance.read_json(path / MANIFEST)["files"]
    unlisted = {str(file.relative_to(path)) for file in path.rglob(TENSORS)} - set(listed)
    if unlisted:
        return Fault(f"{min(unlisted)} does not belong to it")
    for name, facts in list(listed.items())[processes.rank() :: processes.world_size()]:
        text = file_fault(path / name, facts)
        if text is not None:
            return Fault(text)
    return None


def manifest_fault(path: Path) -> Fault | None:
    """Whether the manifest is as it was written, of a format we read, and of this step."""
    file = path / MANIFEST
    try:
        content = file.read_bytes()
        manifest = json.loads(content)
        kind, version = manifest["format"], manifest["version"]
        step, names = manifest["position"]["step"], list(manifest["files"])
        is_signed = "fingerprint" in manifest or version >= FIRST_SIGNED
        if is_signed and not provenance.is_as_written(content, provenance.signed(manifest)):
            return Fault(f"{MANIFEST} was changed after it was written")
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError) as error:
        return Fault(f"{MANIFEST} is missing or unusable ({error})")
    if kind != FORMAT or version not in range(1, VERSION + 1):
        return Fault(
            f"{path} has format {kind!r} version {version!r}, this Textmill reads {FORMAT!r} "
            f"versions 1 to {VERSION}; continue it with the Textmill in its manifest's `versions`, "
            "or set another `output`",
            is_damage=False,
        )
    if path.name != retention.path_of(path.parent, step).name:
        return Fault(f"{MANIFEST} is of step {step}")
    outside = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
    return Fault(f"{MANIFEST} lists {outside[0]}") if outside else None


def file_fault(path: Path, facts: Mapping[str, Any]) -> str | None:
    """What is wrong with one file of a checkpoint. Raises OSError if it cannot be read."""
    if not path.exists():
        return f"{path.name} is missing"
    if not path.is_file():
        return f"{path.name} is not a file"
    size = path.stat().st_size
    if size != facts["bytes"]:
        return f"{path.name} has {size} bytes, the manifest says {facts['bytes']}"
    if provenance.file_fingerprint(path) != facts["hash"]:
        return f"the content of {path.name} does not match its hash"
    return None
