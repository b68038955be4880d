"""Which checkpoints stay on disk, and whether the next one fits. Called by rank 0.

Kept are the last ones at multiples of the interval, the newest, the best and every n-th. A
checkpoint at another step (a run stopped on request) does not push out a regular one: what the end
of a run finds on disk must not depend on interruptions.
"""

import logging
import re
import shutil
from contextlib import suppress
from pathlib import Path

from runtime import config
from runtime.errors import DiskError

NAME = re.compile(r"step-(\d{8,})")
DAMAGED = ".damaged"  # suffix of a checkpoint that did not verify and was passed over
UNIVERSAL = "universal"  # folder of conversions for another number of ranks
BYTES_PER_PARAMETER = 16  # fp32 parameter and two moments, up to 4 bytes of forward parameters
EXPORT_BYTES_PER_PARAMETER = 4
log = logging.getLogger("textmill")


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first."""
    if not folder.is_dir():
        return []
    names = (NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in names if match)


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def prune(folder: Path, best_step: int | None, table: config.Checkpoint) -> None:
    """Delete what the recipe does not keep."""
    present = steps(folder)
    kept = {*regular(present, table)[-table.keep_last :], *present[-1:]}
    if table.keep_best and best_step is not None:
        kept.add(best_step)
    if table.keep_every_steps is not None:
        kept.update(step for step in present if step % table.keep_every_steps == 0)
    for step in present:
        if step not in kept:
            discard(path_of(folder, step))
    clear(folder)
    for leftover in (*folder.glob(f"*{DAMAGED}"), folder / UNIVERSAL):
        remove(leftover)


def clear(folder: Path) -> None:
    """Delete what an interrupted save or deletion left."""
    for leftover in folder.glob("*.tmp"):
        remove(leftover)


def remove(path: Path) -> None:
    """Delete what nothing reads any more, a folder or a file that was to replace `LATEST`; a file
    system that refuses ends no run."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    if path.exists():
        log.warning("could not delete all of %s; delete it by hand", path)


def regular(present: list[int], table: config.Checkpoint) -> list[int]:
    """The steps at which an uninterrupted run saves as well."""
    return [step for step in present if step % table.interval_steps == 0]


def discard(path: Path) -> None:
    """Delete a checkpoint; it stops being one before its first file goes."""
    doomed = path.with_name(f"{path.name}.gone.tmp")
    path.rename(doomed)
    remove(doomed)


def discard_after(folder: Path, step: int) -> None:
    """Delete the checkpoints after this step, unless no other would be left."""
    present = steps(folder)
    if present and present[0] <= step:
        for later in (found for found in present if found > step):
            discard(path_of(folder, later))


def set_aside(path: Path) -> None:
    """Take a damaged checkpoint out of the sequence; the next prune deletes it."""
    aside = path.with_name(f"{path.name}{DAMAGED}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def num_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def make_room(folder: Path, num_parameters: int, best_step: int | None) -> None:
    """Make sure that one more checkpoint fits, giving up older ones if that is enough.

    The newest is never given up, the best only after the others. Raises DiskError, with nothing
    deleted, if giving up all of them would not be enough.
    """
    present = steps(folder)
    sizes = {step: num_bytes(path_of(folder, step)) for step in present}
    needed = sizes[present[-1]] if present else num_parameters * BYTES_PER_PARAMETER
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return
    older = sorted(present[:-1], key=lambda step: (step == best_step, step))
    if free + sum(sizes[step] for step in older) < needed:
        raise DiskError(
            f"the next checkpoint needs {megabytes(needed)}, {folder} has {megabytes(free)} free"
        )
    while free < needed:
        step = older.pop(0)
        log.warning(
            "%s has %s free and the next checkpoint needs %s: the one of step %d is deleted early",
            folder, megabytes(free), megabytes(needed), step,
        )  # fmt: skip
        discard(path_of(folder, step))
        free += sizes[step]


def check_disk(
    folder: Path, num_parameters: int, table: config.Checkpoint, num_exports: int = 0
) -> None:
    """Raise DiskError before step 1 if the checkpoints and exports that will be kept cannot fit.

    One more checkpoint is on disk while it is written.
    """
    count = table.keep_last + int(table.keep_best) + 1
    needed = num_parameters * (
        count * BYTES_PER_PARAMETER + num_exports * EXPORT_BYTES_PER_PARAMETER
    )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        exports = f" and {num_exports} exports" if num_exports else ""
        raise DiskError(
            f"{count} checkpoints{exports} of {num_parameters:,} parameters need about "
            f"{megabytes(needed)}, {folder} has {megabytes(free)} free; "
            "free space, lower checkpoint.keep_last or set another `output`"
        )


def megabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
