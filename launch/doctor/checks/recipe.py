"""What a recipe asks for goes together with the machines it will run on."""

import math
from collections.abc import Iterator

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Batch, Plan
from runtime.ds_config import read_ds_config
from runtime.errors import RecipeError


def applies(plan: Plan) -> bool:
    return plan.job is not None


def examine(plan: Plan) -> Iterator[Finding]:
    """A recipe that cannot be read has ended the doctor before."""
    assert plan.job is not None
    try:
        read_ds_config(plan.job.ds_config)
    except RecipeError as error:
        yield fault(plan.job.recipe, str(error), "correct engine.ds_config")
    num_ranks = num_ranks_of(plan)
    if num_ranks:
        for batch in plan.job.batches:
            yield from judge_batch(batch, plan.job.recipe, num_ranks)


def num_ranks_of(plan: Plan) -> int | None:
    """Of the run: under SLURM as the recipe asks for, whatever nodes could be had to look at."""
    job = plan.job
    if plan.reached == "srun" and job is not None and job.num_nodes and job.ranks_per_node:
        return job.num_nodes * job.ranks_per_node
    return plan.num_ranks if plan.hosts else None


def judge_batch(batch: Batch, recipe: str, num_ranks: int) -> Iterator[Finding]:
    portion = batch.micro_size * num_ranks
    if batch.global_size % portion:
        nearest = max(1, math.floor(batch.global_size / portion + 0.5)) * portion
        yield fault(
            recipe,
            f"{batch.key} ({batch.global_size}) is no multiple of micro_batch_size x ranks = "
            f"{batch.micro_size} x {num_ranks} = {portion}",
            f"`{batch.key}={nearest}`",
        )
