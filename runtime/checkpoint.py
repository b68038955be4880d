"""Checkpoints that are whole or absent, verified before use, and exact.

A run folder holds `checkpoints/step-00000100/` with DeepSpeed's shards, one `rng-RANK.pt` a rank
and `MANIFEST.json`: files with sizes and XXH3 hashes, world size, position of the run, identity
(what it was made with), versions. Saving: all ranks write into `step-N.tmp`; files are fsynced and
hashed, the work shared by the ranks; then rank 0 writes the manifest, renames the folder and
replaces `LATEST` by rename. A folder named `step-N` is therefore complete. The ranks agree after
each part of this: a write that fails on one ends all of them, with the last checkpoint untouched.

Loading: the newest checkpoint whose hashes verify; a damaged one is named and the one before is
used. Hashes are checked before anything is unpickled, and unpickling accepts tensors and plain
values only. A checkpoint of another number of ranks is first rewritten as a universal one. One of
another recipe is refused with the differences, or, if the user accepts drift, continued with the
differences recorded in `drift.json` and in every later manifest.
"""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from runtime import config, drift, engine, processes, provenance, retention, run_lock, seals
from runtime.errors import DataError, DiskError
from runtime.retention import path_of, steps
from runtime.seals import MANIFEST, sealed
from runtime.seals import first_fault as first_fault

FOLDER = "checkpoints"  # in the folder of a stage or task
LATEST = "LATEST"
DRIFT = "drift.json"
REMEDY = "; free space there or set another `output`, then run the same command again"
log = logging.getLogger("textmill")
T = TypeVar("T")


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
    # Accepted differences to an earlier recipe, oldest first: JSON {"step", "time", "changes"}.
    drift: Sequence[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written, and what it cost."""

    path: Path
    seconds: float  # of wall clock
    num_bytes: int  # over all ranks


def save(
    trained: engine.Engine,
    folder: Path,
    position: Position,
    identity: Mapping[str, Any],
    table: config.Checkpoint,
) -> Saved:
    """Write a checkpoint of this step and prune old ones. All ranks call it.

    `identity` is what a later load must meet: nested JSON under the recipe's key paths. Raises
    DiskError on all ranks if a write fails on any; the checkpoint before is then still the newest.
    """
    began = time.monotonic()
    final = path_of(folder, position.step)
    temporary = folder / f"{final.name}.tmp"
    try:
        on_rank_0(lambda: begin(temporary, trained.num_parameters(), position))
        together(lambda: write_state(trained, temporary))
        files = seal_files(temporary)
        manifest = {
            "format": seals.FORMAT,
            "version": seals.VERSION,
            "position": asdict(position),
            "world_size": processes.world_size(),
            "zero_stage": trained.stage,
            "identity": drift.as_json(identity),
            "versions": provenance.versions(),
            "files": files,
        }
        on_rank_0(lambda: publish(temporary, final, manifest))
    except DiskError as error:
        if processes.rank() == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        told = str(error).removesuffix(REMEDY)
        raise DiskError(
            f"no checkpoint of step {position.step} could be written ({told}); {last_of(folder)}; "
            f"free space in {folder} and run the same command again"
        ) from None
    on_rank_0(lambda: retention.prune(folder, position.best_step, table))
    num_bytes = sum(facts["bytes"] for facts in files.values())
    return Saved(final, time.monotonic() - began, num_bytes)


def last_of(folder: Path) -> str:
    """What a message says of the checkpoints that are there."""
    present = steps(folder)
    if not present:
        return "there is no checkpoint yet"
    return f"the last checkpoint, of step {present[-1]}, is intact"


def begin(temporary: Path, num_parameters: int, position: Position) -> None:
    """Clear what an interrupted save left, make room and create the folder to write into."""
    folder = temporary.parent
    folder.mkdir(parents=True, exist_ok=True)
    retention.clear(folder)
    retention.make_room(folder, num_parameters, position.best_step)
    temporary.mkdir()


def write_state(trained: engine.Engine, folder: Path) -> None:
    trained.save_shards(folder)
    torch.save(random_state(), folder / f"rng-{processes.rank():05d}.pt")


def publish(temporary: Path, final: Path, manifest: Mapping[str, Any]) -> None:
    """Give a complete folder its manifest and its name. Raises LostRankError if another job owns
    the run by now."""
    run_lock.check_held()
    seals.write_manifest(temporary, manifest)
    if final.exists():  # saved before, then resumed from an earlier one: the newer run decides
        final.rename(final.with_name(f"{final.name}.old.tmp"))
    temporary.rename(final)
    provenance.fsync_folder(final.parent)
    provenance.write_text(final.parent / LATEST, final.name + "\n")


def on_rank_0(work: Callable[[], None]) -> None:
    """Have rank 0 do something that may fail; the others wait for it and fail with it."""
    together(work if processes.rank() == 0 else lambda: None)


def together(work: Callable[[], T]) -> list[T]:
    """Every rank's result in rank order; DiskError on all of them if the disk failed one.

    A rank that stopped alone would leave the others waiting for it in the next collective.
    """
    result, fault = None, None
    try:
        result = work()
    except (OSError, RuntimeError, DiskError) as error:
        if not is_of_disk(error):
            raise
        fault = str(error) if isinstance(error, DiskError) else f"{error}{REMEDY}"
    parts = processes.gather((result, fault))
    faults = {rank: fault for rank, (_, fault) in enumerate(parts) if fault is not None}
    if faults:
        raise DiskError("; ".join(f"rank {rank}: {fault}" for rank, fault in faults.items()))
    return [result for result, _ in parts]  # type: ignore[misc]  # set where there is no fault


def is_of_disk(error: Exception) -> bool:
    """True for a failed file operation; torch.save reports those of its archives otherwise."""
    return isinstance(error, (OSError, DiskError)) or "inline_container" in str(error)


def seal_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Fsync and hash every file of the folder, each rank a share; all ranks get the whole table."""
    found = together(lambda: listed(folder) if processes.rank() == 0 else [])
    paths = [folder / name for name in found[0]]

    def seal_mine() -> dict[str, dict[str, Any]]:
        mine = paths[processes.rank() :: processes.world_size()]
        return {str(path.relative_to(folder)): sealed(path) for path in mine}

    merged = {name: facts for part in together(seal_mine) for name, facts in part.items()}
    return dict(sorted(merged.items()))


def listed(folder: Path) -> list[str]:
    """The files of a folder. One rank looks, for all: else each would ask the file system about
    every file."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def load_newest(
    trained: engine.Engine,
    folder: Path,
    identity: Mapping[str, Any],
    accepts_drift: bool = False,
) -> Position:
    """Continue from the newest checkpoint that verifies, or start at step 0. All ranks call it.

    Raises DataError if checkpoints exist and none verifies, if it is of a format this version does
    not read, or if it was made with another recipe, unless that is accepted.
    """
    present = processes.from_rank_0(steps(folder))
    damaged: list[Path] = []
    for step in reversed(present):
        found = path_of(folder, step)
        fault = first_fault(found)
        if fault is None:
            position = load(trained, found, identity, accepts_drift)
            on_rank_0(partial(settle, folder, damaged, position))
            return position
        damaged.append(found)
        if processes.rank() == 0:
            log.warning("checkpoint %s is damaged and not used: %s", found, fault)
    if present:
        raise DataError(
            f"all {len(present)} checkpoints in {folder} are damaged (see the lines above); "
            "move the folder away to start from step 0"
        )
    return Position()


def settle(folder: Path, damaged: Sequence[Path], position: Position) -> None:
    """Move what was passed over out of the sequence and say what is continued; rank 0 calls it."""
    for path in damaged:
        retention.set_aside(path)
    report_drift(folder, position)


def discard_after(folder: Path, step: int) -> None:
    """Go back to this step: delete the checkpoints after it, unless no other would be left. All
    ranks call it."""
    on_rank_0(lambda: retention.discard_after(folder, step))


def report_drift(folder: Path, position: Position) -> None:
    """Say and write down where the run left an earlier recipe; one rank calls it."""
    if not position.drift:
        (folder / DRIFT).unlink(missing_ok=True)
        return
    for entry in position.drift:
        lines = drift.described({key: tuple(pair) for key, pair in entry["changes"].items()})
        log.warning(
            "the recipe changed at step %d, accepted by --accept-drift on %s (before -> after):\n"
            "%s",
            entry["step"], entry["time"], lines,
        )  # fmt: skip
    provenance.write_json(folder / DRIFT, position.drift)


def load(
    trained: engine.Engine,
    path: Path,
    identity: Mapping[str, Any],
    accepts_drift: bool = False,
) -> Position:
    """Load one verified checkpoint. Raises DataError if it belongs to something else.

    Differences that are accepted are added to the position's `drift`.
    """
    manifest = provenance.read_json(path / MANIFEST)
    saved, wanted = comparable(manifest, identity)
    changes = drift.check(path, saved, wanted, accepts_drift)
    if manifest["zero_stage"] != trained.stage:
        raise DataError(
            f"{path} was saved under ZeRO stage {manifest['zero_stage']}, this run uses stage "
            f"{trained.stage}, whose shards differ; set engine.ds_config back, or set another "
            "`output`"
        )
    load_state(trained, path, manifest["world_size"])
    position = Position(**manifest["position"])
    if not changes:
        return position
    entry = processes.from_rank_0(drift.entry(position.step, changes))
    return replace(position, drift=[*position.drift, entry])


def comparable(
    manifest: Mapping[str, Any], identity: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What can be compared: of version 1, which kept fingerprints of tables, only what is one."""
    saved = manifest["identity"]
    if manifest["version"] > 1:
        return saved, identity
    both = {key for key in saved if isinstance(identity.get(key), str)}
    if processes.rank() == 0:
        log.warning(
            "the checkpoint is of format version 1: only its %s can be compared with the recipe",
            " and ".join(sorted(both)),
        )
    return {key: saved[key] for key in both}, {key: identity[key] for key in both}


def load_state(trained: engine.Engine, path: Path, saved_by: int) -> None:
    """Load the shards and this rank's generators, whatever number of ranks saved them."""
    is_same_world = saved_by == processes.world_size()
    if is_same_world or trained.stage == 0:  # stage 0 keeps everything on every rank
        trained.load_shards(path, is_universal=False)
    if is_same_world:
        state = torch.load(path / f"rng-{processes.rank():05d}.pt", weights_only=True)
        set_random_state(state)
        return
    # Of the step alone: a run that goes back here later draws what a new start here would.
    step = int(path.name.rpartition("-")[2])
    torch.manual_seed((step << 20) + processes.rank())
    if trained.stage > 0:
        if processes.rank() == 0:
            log.warning(
                "%s was saved by %d ranks and is converted for %d: data and order stay exact, "
                "dropout masks differ from here on",
                path, saved_by, processes.world_size(),
            )  # fmt: skip
        trained.load_shards(universal(path), is_universal=True)


def universal(path: Path) -> Path:
    """The universal form of a verified checkpoint, sealed like one. All ranks call it.

    One that an earlier start made is used if it verifies and was made from this checkpoint.
    """
    final = path.parent / retention.UNIVERSAL / path.name
    source = processes.from_rank_0(provenance.fingerprint(provenance.read_json(path / MANIFEST)))
    if not processes.from_rank_0(final.is_dir()) or first_fault(final) or origin(final) != source:
        on_rank_0(lambda: convert(path, final, source))
    return final


def origin(converted: Path) -> str | None:
    """Fingerprint of what a universal checkpoint was made from, the same on all ranks."""
    found: str | None = provenance.read_json(converted / MANIFEST).get("converted_from")
    return processes.from_rank_0(found)


def convert(path: Path, final: Path, source: str) -> None:
    """Write the universal form of a checkpoint, whole or not at all; one rank calls it."""
    temporary = final.with_name(f"{final.name}.tmp")
    for leftover in (temporary, final):
        shutil.rmtree(leftover, ignore_errors=True)
    engine.convert_to_universal(path, temporary)
    written = sorted(file for file in temporary.rglob("*") if file.is_file())
    files = {str(file.relative_to(temporary)): sealed(file) for file in written}
    manifest = provenance.read_json(path / MANIFEST)
    seals.write_manifest(temporary, manifest | {"converted_from": source, "files": files})
    temporary.rename(final)


def random_state() -> dict[str, torch.Tensor]:
    """The generators that a training step may draw from on this rank."""
    state = {"cpu": torch.get_rng_state()}
    if processes.uses_cuda():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and processes.uses_cuda():
        torch.cuda.set_rng_state(state["cuda"])


def check_disk(
    folder: Path, num_parameters: int, table: config.Checkpoint, num_exports: int = 0
) -> None:
    """Raise DiskError before step 1 if the checkpoints and exports that will be kept cannot fit.

    All ranks call it.
    """
    on_rank_0(lambda: retention.check_disk(folder, num_parameters, table, num_exports))
