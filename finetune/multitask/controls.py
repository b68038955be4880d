"""The single-task controls: each task of a multi-task model trained by itself, in the same way.

The same encoder, rows, settings and seeds; as many epochs over the task's rows, in batches of the
same size. If the recipe trains the task alone just so and that is done, its model is the control;
else one is trained here.
"""

import gc
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import predict, single
from finetune.config import Recipe
from finetune.fit import fit
from finetune.multitask.prepare import Several
from finetune.plan import EXPORT, encoder_name, plan_task, seeds_of
from finetune.prepare import Prepared
from finetune.reports import report
from finetune.reports.report import Trained
from finetune.task import Training
from runtime import processes, provenance

log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Alone:
    """A task trained by itself."""

    source: str  # the folder it was trained in
    seeds: Mapping[str, Any]  # over the training runs, as in report.json
    predictions: Mapping[str, list[Any]]  # by split, of the run that is best on valid


def of(
    recipe: Recipe, several: Several, task: Prepared, folder: Path, accepts_drift: bool
) -> Alone:
    """The control of a task, trained in `folder` if need be. All ranks call it."""
    done = done_alone(recipe, several, task.name)
    if done is not None:
        if processes.rank() == 0:
            log.info("%s: the control is %s", task.name, done)
        predictor = predict.load(done / EXPORT)
        predictions = {split: predictor.predictions(task.data[split]) for split in task.scored}
        found = provenance.read_json(done / "report.json")
        return Alone(str(done), found["seeds"], predictions)
    if processes.rank() == 0:
        log.info("%s: training its control in %s", task.name, folder)
    runs = trained(recipe, several, task, folder, accepts_drift)
    results = runs[0].results
    predictions = {split: scored.predictions for split, scored in results.items()}
    return Alone(str(folder), report.by_seed(runs), predictions)


def trained(
    recipe: Recipe, several: Several, task: Prepared, folder: Path, accepts_drift: bool
) -> list[Trained]:
    """One run a seed, the best on valid first. All ranks call it."""
    runs: list[Trained] = []
    for seed in seeds_of(recipe, several.table):
        fitted = fit(single.trainable(task), recipe, folder / f"seed-{seed}", seed, accepts_drift)
        found = Trained(fitted.training, *single.final_scores(fitted.engine, task))
        is_best = not runs or found.score(task) > runs[0].score(task)
        runs.insert(0 if is_best else len(runs), found)
        del fitted
        gc.collect()  # the engine's parameters, before the next model is built
    return runs


def done_alone(recipe: Recipe, several: Several, name: str) -> Path | None:
    """The folder of the task's own model if the recipe trains one in the same way and that is
    done."""
    task = recipe.tasks[name]
    if not task.alone or settings(recipe, task) != settings(recipe, several.table):
        return None
    planned = plan_task(recipe, name, task)
    return planned.folder if processes.from_rank_0(planned.is_done) else None


def settings(recipe: Recipe, table: Training) -> dict[str, Any]:
    """How a table has a model trained, defaults filled in."""
    given = {field: getattr(table, field) for field in Training.model_fields}
    filled = {"seeds": seeds_of(recipe, table), "encoder": encoder_name(recipe, table)}
    return given | filled
