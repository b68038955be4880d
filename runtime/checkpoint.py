"""Checkpoints that are whole or absent, verified before use, and exact.

A run folder holds `checkpoints/step-00000100/` with DeepSpeed's shards, one `rng-RANK.pt` a rank
and `MANIFEST.json`: files with sizes and XXH3 hashes, world size, position of the run,
fingerprints, versions. Saving: all ranks write into `step-N.tmp`; files are fsynced and hashed, the
work shared by the ranks; then rank 0 writes the manifest, renames the folder and replaces `LATEST`
by rename. A folder named `step-N` is therefore complete.

Loading: the newest checkpoint whose hashes verify; a damaged one is named and the one before is
used. Hashes are checked before anything is unpickled, and unpickling accepts tensors and plain
values only. A checkpoint of another number of ranks is first rewritten as a universal one.
"""

import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from runtime import config, engine, processes, provenance
from runtime.errors import DataError, DiskError

MANIFEST = "MANIFEST.json"
LATEST = "LATEST"
NAME = re.compile(r"step-(\d{8,})")
UNIVERSAL = "universal"
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Position:
    """Where a run is: all that its data, its schedule and its decisions depend on."""

    step: int = 0  # optimizer steps done; the data of a step is a function of its number
    tokens: int = 0  # trained on, padding excluded
    targets: int = 0
    best_score: float | None = None  # of validation, higher is better
    best_step: int | None = None
    evaluations_since_best: int = 0
    data_offset: int = 0  # steps whose data was passed over when the run went back
    rollbacks: int = 0  # how often it did
    seconds: float = 0.0  # of wall clock in the loop
    state: Mapping[str, Any] = field(default_factory=dict)  # JSON of the guard and each hook


def save(
    trained: engine.Engine,
    folder: Path,
    position: Position,
    identity: Mapping[str, str],
    table: config.Checkpoint,
) -> Path:
    """Write a checkpoint of this step and prune old ones. All ranks call it.

    `identity` holds fingerprints (model, tokenizer, data) that a later load must meet.
    """
    final = folder / f"step-{position.step:08d}"
    temporary = folder / f"{final.name}.tmp"
    if processes.rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir()
    processes.barrier()
    trained.save_shards(temporary)
    torch.save(random_state(), temporary / f"rng-{processes.rank():05d}.pt")
    processes.barrier()
    files = seal_files(temporary)
    if processes.rank() == 0:
        manifest = {
            "format": "textmill-checkpoint",
            "version": 1,
            "position": asdict(position),
            "world_size": processes.world_size(),
            "zero_stage": trained.stage,
            "identity": dict(identity),
            "versions": provenance.versions(),
            "files": files,
        }
        provenance.write_json(temporary / MANIFEST, manifest)
        if final.exists():  # saved before, then resumed from an earlier one: the newer run decides
            final.rename(folder / f"{final.name}.old.tmp")
        temporary.rename(final)
        provenance.fsync_folder(folder)
        provenance.write_text(folder / LATEST, final.name + "\n")
        prune(folder, position, table)
    processes.barrier()
    return final


def seal_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Fsync and hash every file of the folder, each rank a share; all ranks get the whole table."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    mine = {}
    for path in paths[processes.rank() :: processes.world_size()]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        mine[str(path.relative_to(folder))] = {
            "bytes": path.stat().st_size,
            "hash": provenance.file_fingerprint(path),
        }
    merged = {name: facts for part in processes.gather(mine) for name, facts in part.items()}
    return dict(sorted(merged.items()))


def prune(folder: Path, position: Position, table: config.Checkpoint) -> None:
    """Delete what the recipe does not keep: all but the last k, the best and every n-th."""
    present = steps(folder)
    kept = set(present[-table.keep_last :])
    if table.keep_best and position.best_step is not None:
        kept.add(position.best_step)
    if table.keep_every_steps is not None:
        kept.update(step for step in present if step % table.keep_every_steps == 0)
    for step in present:
        if step not in kept:
            discard(folder / f"step-{step:08d}")
    for path in folder.glob("*.old.tmp"):
        shutil.rmtree(path)
    shutil.rmtree(folder / UNIVERSAL, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a checkpoint; it stops being one before its first file goes."""
    doomed = path.with_name(f"{path.name}.tmp")
    path.rename(doomed)
    shutil.rmtree(doomed)


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first."""
    if not folder.is_dir():
        return []
    names = (NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in names if match)


def load_newest(trained: engine.Engine, folder: Path, identity: Mapping[str, str]) -> Position:
    """Continue from the newest checkpoint that verifies, or start at step 0. All ranks call it.

    Raises DataError if checkpoints exist and none verifies, or if it belongs to another model,
    tokenizer or data.
    """
    present = processes.from_rank_0(steps(folder))
    for step in reversed(present):
        found = folder / f"step-{step:08d}"
        fault = first_fault(found)
        if fault is None:
            return load(trained, found, identity)
        if processes.rank() == 0:
            log.warning("checkpoint %s is damaged and not used: %s", found, fault)
    if present:
        raise DataError(
            f"all {len(present)} checkpoints in {folder} are damaged (see the lines above); "
            "move the folder away to start from step 0"
        )
    return Position()


def first_fault(path: Path) -> str | None:
    """Why a checkpoint cannot be used, the same on all ranks; the files are shared out to check."""
    fault = None
    try:
        manifest = provenance.read_json(path / MANIFEST)
        files = list(manifest["files"].items())
        for name, facts in files[processes.rank() :: processes.world_size()]:
            fault = fault or file_fault(path / name, facts)
    except (DataError, KeyError, TypeError, AttributeError) as error:
        fault = f"{MANIFEST} is missing or unusable ({error})"
    return next((found for found in processes.gather(fault) if found), None)


def file_fault(path: Path, facts: Mapping[str, Any]) -> str | None:
    """What is wrong with one file of a checkpoint."""
    if not path.is_file():
        return f"{path.name} is missing"
    size = path.stat().st_size
    if size != facts["bytes"]:
        return f"{path.name} has {size} bytes, the manifest says {facts['bytes']}"
    if provenance.file_fingerprint(path) != facts["hash"]:
        return f"the content of {path.name} does not match its hash"
    return None


def load(trained: engine.Engine, path: Path, identity: Mapping[str, str]) -> Position:
    """Load one verified checkpoint. Raises DataError if it belongs to something else."""
    manifest = provenance.read_json(path / MANIFEST)
    check_identity(path, manifest["identity"], identity)
    world = processes.world_size()
    if manifest["zero_stage"] != trained.stage:
        raise DataError(
            f"{path} was saved under ZeRO stage {manifest['zero_stage']}, this run uses stage "
            f"{trained.stage}; set engine.ds_config back, or set another `output`"
        )
    is_same_world = manifest["world_size"] == world
    if is_same_world or trained.stage == 0:  # stage 0 keeps everything on every rank
        trained.load_shards(path, is_universal=False)
    if is_same_world:
        state = torch.load(path / f"rng-{processes.rank():05d}.pt", weights_only=True)
        set_random_state(state)
    elif trained.stage > 0:
        if processes.rank() == 0:
            log.warning(
                "%s was saved by %d ranks and is converted for %d: data and order stay exact, "
                "dropout masks differ from here on",
                path, manifest["world_size"], world,
            )  # fmt: skip
        trained.load_shards(universal(path), is_universal=True)
    return Position(**manifest["position"])


def universal(path: Path) -> Path:
    """The universal form of a checkpoint, made by rank 0; all ranks wait for it."""
    final = path.parent / UNIVERSAL / path.name
    if processes.rank() == 0 and not final.is_dir():
        temporary = final.with_name(f"{final.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        engine.convert_to_universal(path, temporary)
        temporary.rename(final)
    processes.barrier()
    return final


def check_identity(path: Path, saved: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise DataError naming what differs between a checkpoint and this run."""
    differing = [key for key in sorted({*saved, *wanted}) if saved.get(key) != wanted.get(key)]
    if differing:
        raise DataError(
            f"the checkpoint {path} was made with another {' and '.join(differing)}; "
            "restore the recipe it was made with, or set another `output` to start anew"
        )


def random_state() -> dict[str, torch.Tensor]:
    """The generators that a training step may draw from on this rank."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def check_disk(folder: Path, num_parameters: int, table: config.Checkpoint) -> None:
    """Raise DiskError before step 1 if the checkpoints that will be kept cannot fit.

    A checkpoint holds fp32 parameters and two moments (12 bytes a parameter) and up to 4 bytes of
    forward parameters; one more is on disk while it is written.
    """
    count = table.keep_last + int(table.keep_best) + 1
    needed = count * num_parameters * 16
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"{count} checkpoints of {num_parameters:,} parameters need about "
            f"{needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free; "
            "free space, lower checkpoint.keep_last or set another `output`"
        )
