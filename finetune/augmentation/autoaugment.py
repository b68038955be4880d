"""Training rows with their copies, and which operations are worth having (`[augment] auto`).

Without `auto` every operation of a task's `augment` is used. With it each is judged on folds of the
training rows: a model with the operation's copies and one without predict rows that neither has
seen, and the paired bootstrap says how likely the gain is luck. Copies are made from the rows that
a fold trains on and are never predicted. An operation stays if its gain is above 0 and p is at most
`augment.max_p`; if several stay, all of them together are tried too, and kept if they are better
than the best one alone. So many operations tried at once, one in twenty looks helpful by luck.

One fit a fold and candidate, below `augment/` in the task's folder: `without/fold-K`,
`OPERATION/fold-K`, `together/fold-K`. A run that is stopped continues with the fit it was at.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune import folds, held_out
from finetune.augmentation import augmenting, copying
from finetune.augmentation.augmenting import Augmented
from finetune.config import Recipe
from finetune.plan import seeds_of
from finetune.prepare import Prepared
from finetune.scores import bootstrap
from finetune.scores.bootstrap import Comparison, Floats
from runtime import processes

WITHOUT, TOGETHER = "without", "together"
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Candidate:
    """Operations that were tried together, and how rows were predicted with their copies."""

    name: str
    places: tuple[int, ...]  # of the operations in the task's table
    copies: int  # that were trained on, over all folds
    counts: Floats  # of every training row, as the plug-in counts
    score: float  # the task's metric over all training rows


def apply(
    recipe: Recipe, prepared: Prepared, folder: Path, accepts_drift: bool = False
) -> tuple[Prepared, dict[str, Any]]:
    """The task with copies among its training rows, and what the report says of them. All ranks
    call it.

    `folder` is the task's. No other split is changed, and no copy has the text of a row of one.
    """
    task = prepared.task
    if not task.augment:
        return prepared, {}
    augmenting.check(prepared.name, task)
    places: Sequence[int] = range(len(task.augment))
    choice: dict[str, Any] = {}
    if recipe.augment.auto:
        places, choice = chosen(recipe, prepared, folder / "augment", accepts_drift)
    found = copies_of(recipe, prepared, places)
    report = {
        "rows_read": len(prepared.data["train"].rows),
        "rows_added": len(found.copies),
        "operations": copying.by_operation(task, found),
        **choice,
        "examples": copying.examples(task, prepared.data["train"].rows, found),
    }
    return with_copies(prepared, [copy.row for copy in found.copies]), report


def copies_of(recipe: Recipe, prepared: Prepared, places: Sequence[int]) -> Augmented:
    """What these operations make of the training rows. All ranks call it."""
    # An operation may be a model made from the encoder: it is told which one this is.
    task = prepared.task.model_copy(update={"encoder": str(prepared.encoder.folder)})
    return copying.copies(prepared.plugin, task, prepared.data, places, recipe.seed)


def with_copies(prepared: Prepared, copies: Sequence[Any]) -> Prepared:
    """The task with more training rows; they stand behind those that were read."""
    if not copies:
        return prepared
    before = prepared.data["train"]
    grown = prepared.with_rows(train=[*before.rows, *copies])
    counts = {**before.counts, "rows_augmented": len(copies)}
    return replace(grown, data={**grown.data, "train": replace(grown.data["train"], counts=counts)})


def chosen(
    recipe: Recipe, prepared: Prepared, folder: Path, accepts_drift: bool
) -> tuple[Sequence[int], dict[str, Any]]:
    """The places of the operations that help, and the table of what each brought. All ranks call
    it."""
    table = recipe.augment
    seed = seeds_of(recipe, prepared.task)[0]
    parts = folds.of(prepared.plugin, prepared.data["train"], table.folds, seed)

    def tried(name: str, places: Sequence[int]) -> Candidate:
        return judged(recipe, prepared, parts, name, places, folder, seed, accepts_drift)

    names = augmenting.names(prepared.task.augment)
    if processes.rank() == 0:
        log.info(
            "%s: %d operations are judged on %d folds: at most %d fits",
            prepared.name, len(names), table.folds, (len(names) + 2) * table.folds,
        )  # fmt: skip
    without = tried(WITHOUT, ())
    rows: list[dict[str, Any]] = [{"operation": WITHOUT, "score": without.score, "copies": 0}]
    helpful = []
    for place, name in enumerate(names):
        candidate = tried(name, (place,))
        found = compared(prepared, candidate, without)
        helps = found.difference > 0 and found.p <= table.max_p
        helpful += [candidate] * helps
        rows.append(row_of(candidate, name, found, WITHOUT, helps))
        say(prepared, rows[-1])
    kept = max(helpful, key=lambda candidate: candidate.score, default=without)
    if len(helpful) > 1:
        places = tuple(place for candidate in helpful for place in candidate.places)
        union = tried(TOGETHER, places)
        found = compared(prepared, union, kept)
        name = " + ".join(candidate.name for candidate in helpful)
        rows.append(row_of(union, name, found, kept.name, found.difference > 0))
        say(prepared, rows[-1])
        kept = union if found.difference > 0 else kept
    return kept.places, {
        "chosen_by": {
            "metric": prepared.task.metric,
            "folds": table.folds,
            "max_p": table.max_p,
            "seed": seed,
            "kept": ", ".join(names[place] for place in kept.places) or "none",
        },
        "what_each_brought": rows,
    }


def judged(
    recipe: Recipe,
    prepared: Prepared,
    parts: Sequence[Sequence[int]],
    name: str,
    places: Sequence[int],
    folder: Path,
    seed: int,
    accepts_drift: bool,
) -> Candidate:
    """Predict every training row by a model that has not seen it but the copies of others."""
    dataset = prepared.data["train"]
    predictions: list[Any] = [None] * len(dataset.rows)
    num_copies = 0
    for number, rows in enumerate(parts, start=1):
        part = held_out.part(prepared, *folds.divided(dataset.rows, rows))
        found = copies_of(recipe, part, places)
        num_copies += len(found.copies)
        part = with_copies(part, [copy.row for copy in found.copies])
        # Without copies there is nothing new to train.
        at = folder / (name if found.copies else WITHOUT) / f"fold-{number}"
        said = held_out.predicted(recipe, part, at, seed, accepts_drift).scored.predictions
        for row, prediction in zip(rows, said, strict=True):
            predictions[row] = prediction
    counts = prepared.plugin.row_counts(dataset, predictions, prepared.labels)
    statistic = bootstrap.statistic(prepared.plugin, prepared.task.metric)
    score = float(statistic(counts, np.ones((1, len(counts))))[0])
    return Candidate(name, tuple(places), num_copies, counts, score)


def compared(prepared: Prepared, candidate: Candidate, other: Candidate) -> Comparison:
    """Whether one predicts the training rows better than the other."""
    statistic = bootstrap.statistic(prepared.plugin, prepared.task.metric)
    return bootstrap.paired(candidate.counts, other.counts, statistic)


def row_of(
    candidate: Candidate, name: str, found: Comparison, against: str, is_kept: bool
) -> dict[str, Any]:
    """A line of the table: the gain of the candidate over `against`."""
    return {
        "operation": name,
        "score": candidate.score,
        "copies": candidate.copies,
        "against": against,
        "gain": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "helps": is_kept,
    }


def say(prepared: Prepared, row: Mapping[str, Any]) -> None:
    """Rank 0 names what an operation brought."""
    if processes.rank() == 0:
        log.info(
            "%s: augment %s: %s %.4f, %+.4f over %s (p %.3f)%s",
            prepared.name, row["operation"], prepared.task.metric, row["score"], row["gain"],
            row["against"], row["p"], ", helps" if row["helps"] else "",
        )  # fmt: skip
