"""What pretraining would do with a recipe, and whether it has been done. Imports no torch."""

import json
from pathlib import Path

import data_prep.plan
from data_prep.shards import Corpus
from pretrain import phases
from pretrain.budget import Budget, budget_of
from pretrain.config import Recipe
from runtime import provenance, stages
from runtime.errors import RecipeError
from runtime.stages import Plan

STAGE = "pretrain"
TABLES = (
    "model",
    "objective",
    "train",
    "optimizer",
    "schedule",
    "engine",
    "mixture",
    "checkpoint",
    "guard",
)
# Change nothing in the result: another value continues the same run.
WITHOUT_EFFECT = {
    "engine": ("collective_timeout_seconds", "threads_per_rank", "peak_tflops"),
    "train": ("export_at", "probes"),
    "checkpoint": ("interval_steps", "keep_last", "keep_every_steps"),
}


def plan(recipe: Recipe) -> Plan:
    """Plan pretraining. Raises DataError if shards exist and are damaged."""
    folder = stages.folder(recipe.output, STAGE)
    data = stages.folder(recipe.output, "data_prep")
    if recipe.model is None or recipe.train is None:
        return Plan(STAGE, folder, "", pending="the recipe has no [model]")
    if recipe.sources:  # a budget that cannot work is told before hours of data preparation
        budget_of(recipe.train, recipe.packing.sequence_length)
    if recipe.sources and not data_prep.plan.plan(recipe).is_done:
        return Plan(STAGE, folder, "", pending="waits for data_prep")
    if not (data / stages.MANIFEST).is_file():
        return Plan(STAGE, folder, "", pending=f"waits for shards in {data}")
    corpus = Corpus(data)
    inputs = {
        "tables": result_tables(recipe),
        "seed": recipe.seed,
        "data": corpus.fingerprint,
        "checkpoint": checkpoint_fingerprint(recipe.model.checkpoint),
    }
    budget = budget_of(recipe.train, corpus.sequence_length)
    phases.check_known(recipe.train.phases, recipe.mixture, budget, corpus, folder)
    stored = sum(
        split["num_tokens"] for facts in corpus.sources.values() for split in facts.splits.values()
    )
    lines = [
        *budget.lines(),
        *reweighting_lines(recipe, budget),
        f"shards  {stored:,} tokens of {len(corpus.sources)} sources in {data}",
    ]
    return Plan(STAGE, folder, provenance.fingerprint(inputs), lines)


def reweighting_lines(recipe: Recipe, budget: Budget) -> list[str]:
    """How often an online mixture changes. Raises RecipeError if it never would."""
    if recipe.mixture.strategy != "online" or recipe.train is None:
        return []
    online, every = recipe.mixture.online, recipe.train.evaluate_every_steps
    changes = online.num_changes(budget.total_steps, every)
    if not changes:
        raise RecipeError(
            f'mixture.strategy = "online" would change no weight in {budget.total_steps:,} steps: '
            f"it needs mixture.online.min_evaluations ({online.min_evaluations}) evaluations after "
            f"mixture.online.warmup_share ({online.warmup_share}) of the run; lower "
            f"train.evaluate_every_steps ({every}), or choose another strategy"
        )
    return [f"weights change {changes:,} times"]


def result_tables(recipe: Recipe) -> dict[str, object]:
    """The tables that decide the trained weights."""
    dumped = json.loads(recipe.model_dump_json(include=set(TABLES)))
    for table, keys in WITHOUT_EFFECT.items():
        for key in keys:
            dumped[table].pop(key, None)
    return dict(dumped)


def checkpoint_fingerprint(checkpoint: str | None) -> str | None:
    """Fingerprint of a model to continue; of its name if it is a hub id."""
    if checkpoint is None or not Path(checkpoint).is_dir():
        return checkpoint
    weights = [path for path in Path(checkpoint).iterdir() if path.is_file()]
    return provenance.fingerprint(
        [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(weights)]
    )
