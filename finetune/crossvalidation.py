"""Cross-validation: every training row is predicted once, by a model that has not seen it.

Each fold is trained as the task itself would be, with its copies (made from the rows the fold
trains on, and chosen on them if `[augment] auto` says so) and the task's valid rows to choose the
checkpoint and calibrate decoding. Test rows are not touched. Of a multi-task model the main task is
cut into folds; all rows of the others are trained on.

The folder holds `fold-K/` (finetune/held_out.py; a finished fold is not repeated) with the fold's
metric in score.json, `predictions.jsonl` (a line of finetune/reports/predictions.py for each
training row, with its `fold`) and
crossvalidation.json:
task, kind, metric, seed, together_with   (the other tasks of a multi-task model)
folds      of each fold: rows trained on and predicted, metrics, training, augmentation
mean, deviation   of each metric over the folds (sample deviation)
metrics    over all out-of-fold predictions at once, with `intervals` (95 %, resampled rows)
"""

import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import folds, held_out
from finetune.augmentation import autoaugment
from finetune.config import Recipe
from finetune.evaluation import Scored
from finetune.held_out import ALONE, Learner
from finetune.prepare import Prepared
from finetune.reports import findings, predictions
from runtime import processes, provenance

REPORT = "crossvalidation.json"
PREDICTIONS = "predictions.jsonl"
SCORE = "score.json"
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Fold:
    """One model and the rows it had not seen."""

    rows: Sequence[int]  # of the training rows, predicted
    num_trained: int  # rows trained on, copies included
    scored: Scored  # of those rows, in their order
    training: dict[str, Any]
    augmentation: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What all folds came to."""

    metric: str
    folds: Sequence[Fold]
    scored: Scored  # all training rows, in row order; its loss is the mean of the folds'

    @property
    def score(self) -> float:
        """The task's metric over all out-of-fold predictions; higher is better."""
        return self.scored.scores.metrics[self.metric]

    @property
    def mean(self) -> dict[str, float]:
        """Of every metric that each fold has."""
        return {name: statistics.fmean(values) for name, values in self.values().items()}

    @property
    def deviation(self) -> dict[str, float]:
        """Sample deviation over the folds."""
        return {name: statistics.stdev(values) for name, values in self.values().items()}

    def values(self) -> dict[str, list[float]]:
        """Every metric by fold."""
        found = [fold.scored.scores.metrics for fold in self.folds]
        names = [name for name in found[0] if all(name in metrics for metrics in found)]
        return {name: [metrics[name] for metrics in found] for name in names}


def run(
    recipe: Recipe,
    prepared: Prepared,
    folder: Path,
    number: int,
    seed: int,
    accepts_drift: bool = False,
    learner: Learner = ALONE,
) -> Result:
    """Train and predict `number` folds, at least 2, and write what they came to. All ranks call it.

    Raises DataError if there are fewer documents than folds.
    """
    dataset = prepared.data["train"]
    parts = folds.of(prepared.plugin, dataset, number, seed)
    found = []
    for i, rows in enumerate(parts, start=1):
        at = folder / f"fold-{i}"
        part = held_out.part(prepared, *folds.divided(dataset.rows, rows))
        part, augmentation = autoaugment.apply(recipe, part, at, accepts_drift)
        done = held_out.predicted(recipe, part, at, seed, accepts_drift, learner)
        num_trained = len(part.data["train"].rows)
        found.append(Fold(rows, num_trained, done.scored, done.training, augmentation))
        if processes.rank() == 0:
            score = done.scored.scores.metrics[prepared.task.metric]
            provenance.write_json(at / SCORE, {prepared.task.metric: score})
            log.info(
                "%s: fold %d of %d: %s %.4f on %d rows",
                prepared.name, i, number, prepared.task.metric, score, len(rows),
            )  # fmt: skip
    result = Result(prepared.task.metric, found, pooled(prepared, found))
    if processes.rank() == 0:
        write(folder, prepared, result, seed, learner.beside)
    processes.barrier()
    return result


def pooled(prepared: Prepared, found: Sequence[Fold]) -> Scored:
    """All out-of-fold predictions as those of one file."""
    dataset = prepared.data["train"]
    said: list[Any] = [None] * len(dataset.rows)
    for fold in found:
        for row, prediction in zip(fold.rows, fold.scored.predictions, strict=True):
            said[row] = prediction
    scores = prepared.plugin.score(dataset, said, prepared.labels)
    return Scored(scores, statistics.fmean(fold.scored.loss for fold in found), said)


def write(
    folder: Path, prepared: Prepared, result: Result, seed: int, beside: Sequence[str]
) -> None:
    """crossvalidation.json and the predictions. Rank 0 calls it."""
    report = {
        "task": prepared.name,
        "kind": prepared.task.kind,
        "metric": result.metric,
        "seed": seed,
        "together_with": list(beside),
        "folds": [
            {
                "rows_trained": fold.num_trained,
                "rows": len(fold.rows),
                "loss": fold.scored.loss,
                "metrics": fold.scored.scores.metrics,
                "training": fold.training,
                "augmentation": fold.augmentation,
            }
            for fold in result.folds
        ],
        "mean": result.mean,
        "deviation": result.deviation,
        "metrics": result.scored.scores.metrics,
        "intervals": findings.intervals_of(prepared, "train", result.scored),
        "predictions": PREDICTIONS,
    }
    home = {row: i for i, fold in enumerate(result.folds, start=1) for row in fold.rows}
    lines = [
        json.dumps({**row, "fold": home[row["row"]]}, ensure_ascii=False) + "\n"
        for row in predictions.rows(prepared, "train", result.scored)
    ]
    provenance.write_text(folder / PREDICTIONS, "".join(lines))
    provenance.write_json(folder / REPORT, report)


def lines(prepared: Prepared, folder: Path, result: Result) -> list[str]:
    """The closing lines on the console."""
    metric = result.metric
    bounds = findings.intervals_of(prepared, "train", result.scored).get(metric)
    interval = f" [{bounds['low']:.4f}, {bounds['high']:.4f}]" if bounds else ""
    return [
        f"{prepared.name}: {metric} {result.score:.4f}{interval} over all "
        f"{len(result.scored.predictions)} training rows, out of fold",
        f"  {result.mean[metric]:.4f} +- {result.deviation[metric]:.4f} over "
        f"{len(result.folds)} folds",
        f"  {folder / REPORT}",
    ]
