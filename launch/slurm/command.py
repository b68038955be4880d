"""`textmill run RECIPE --launcher slurm`: write the batch files, queue the stages, say which jobs.

Only stages that are not up to date become jobs, each waiting for the success of the one before; the
page about the run comes last. All of them are queued or none. While one of them is in the queue or
running, nothing is submitted again.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.doctor.job import batches
from launch.slurm import batch_files, jobs
from launch.slurm.batch_files import EVALUATE, FINETUNE, SUBMIT, Place
from runtime import command, provenance, run_lock, stages
from runtime.config import Recipe
from runtime.errors import BusyError, DataError, RecipeError
from runtime.recipe import to_toml
from runtime.redaction import redacted


def run(arguments: command.Arguments, recipe: Recipe) -> None:
    """Submit what is to be done. Raises RecipeError, DataError for a refusal by SLURM, and
    BusyError while jobs of this run are in the queue."""
    place = batch_files.place_of(recipe)
    wanted = unfinished(recipe)
    if not wanted:
        print("nothing is submitted")
        return
    check_batches(recipe)
    files = batch_files.rendered(recipe, wanted, place, tasks(recipe))
    if arguments.dry_run:
        for name, text in files.items():
            print(f"--- {place.folder / name}\n{redacted(text, os.environ)}")
        print(f"not submitted: {', '.join(wanted)}")
        return
    with run_lock.owned(run_lock.path_of(recipe.output, "slurm"), "the submission of this run"):
        check_idle(place.output)
        provenance.write_text(recipe.output / "recipe.toml", to_toml(recipe))
        write(files, place)
        submitted = submit(place)
    for stage, job in submitted.items():
        print(f"{stage}: job {job}")
    print(f"logs: {place.logs}\nstate: textmill status {recipe.output}")


def unfinished(recipe: Recipe) -> list[str]:
    """The stages to submit. Raises RecipeError for one that waits for anything but those before."""
    found: list[str] = []
    for stage in stages.STAGES:
        if not stages.is_wanted(stage, recipe):
            continue
        plan = stages.plan(stage, recipe)
        if plan.is_done:
            print(f"{stage}: up to date")
            continue
        awaited = {f"waits for {earlier}" for earlier in found}
        for part in (*plan.parts, plan):
            if part.pending and part.pending not in awaited:
                raise RecipeError(f"{part.stage} cannot start: {part.pending}")
        found.append(stage)
    return [*found, EVALUATE] if found else []


def tasks(recipe: Recipe) -> list[str]:
    """The models of tasks that are not done."""
    if not stages.is_wanted(FINETUNE, recipe):
        return []
    return [part.folder.name for part in stages.plan(FINETUNE, recipe).parts if not part.is_done]


def check_batches(recipe: Recipe) -> None:
    """Refuse here what the ranks would refuse after their hours in the queue."""
    ranks = recipe.slurm.nodes * recipe.slurm.num_ranks_per_node
    for batch in batches(recipe):
        if batch.global_size % (batch.micro_size * ranks):
            raise RecipeError(
                f"{batch.key} ({batch.global_size}) must be a multiple of train.micro_batch_size x "
                f"ranks = {batch.micro_size} x {ranks} (slurm.nodes x ranks_per_node)"
            )


def check_idle(output: Path) -> None:
    """Raises BusyError if jobs of an earlier submission may still do something."""
    found = jobs.of_run(output)
    if any(job.state == jobs.UNKNOWN for job in found.values()):
        raise DataError(
            f"squeue does not answer, so it is not known whether jobs of this run are in the queue "
            f"({', '.join(job.id for job in found.values())}); run this on a machine of the cluster"
        )
    active = [f"{stage} {job}" for stage, job in found.items() if job.is_active]
    if active:
        ids = " ".join(job.id for job in found.values() if job.is_active)
        raise BusyError(
            f"jobs of this run are in the queue: {', '.join(active)}; wait for them, or cancel "
            f"them: scancel {ids}"
        )


def write(files: Mapping[str, str], place: Place) -> None:
    """Put the files in their folder, without the batch files of an earlier submission."""
    place.folder.mkdir(parents=True, exist_ok=True)
    for path in place.folder.glob("*.sbatch"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        provenance.write_text(place.folder / name, text)


def submit(place: Place) -> dict[str, str]:
    """Run submit.sh; return the job of each stage. Raises DataError with what SLURM says."""
    ended = subprocess.run(
        ["bash", str(place.folder / SUBMIT)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise DataError(
            f"nothing is submitted: {reason(ended.stderr.splitlines())}; the files are in "
            f"{place.folder}"
        )
    return dict(line.split(maxsplit=1) for line in ended.stdout.splitlines())


def reason(said: Sequence[str]) -> str:
    """What the last line of an error means for the user."""
    lines = [line.strip() for line in said if line.strip()]
    if any("sbatch: command not found" in line for line in lines):
        return "the command sbatch is not here; run this on a machine of the cluster"
    return "; ".join(line.removeprefix("sbatch: error: ") for line in lines) or "sbatch has failed"
