"""What a trial has come to so far, read from the files it writes. Imports neither torch nor optuna.

The values after each evaluation (or fold) are compared while it runs; its score is that of its
report, the best of the valid rows after decoding was calibrated (or the mean over folds), and is
there only when the trial is done.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from finetune.config import Recipe
from finetune.search import space
from runtime import provenance, retention, stages
from runtime.tracking import METRICS

FOLDS = "folds"  # what `crossvalidate` writes, in a task's folder
FOLD_SCORE = "score.json"  # of one fold, in its folder


@dataclass(frozen=True)
class Watched:
    """What is read of a trial."""

    target: str
    task: str  # whose metric it is: the target, or its first task
    is_multitask: bool
    metric: str
    folds: int | None

    @property
    def tag(self) -> str:
        """Of the metric in metrics.jsonl."""
        return f"eval/{self.task}/{self.metric}" if self.is_multitask else f"eval/{self.metric}"


def watched_of(recipe: Recipe, target: str) -> Watched:
    return Watched(
        target,
        space.tasks_of(recipe, target)[0],
        target in recipe.multitask,
        space.metric_of(recipe, target),
        recipe.search.folds,
    )


def stage_folder(folder: Path, watched: Watched) -> Path:
    """Where the trial in `folder` writes what it measures."""
    own = stages.folder(folder, "finetune") / watched.target
    return own / FOLDS if watched.folds else own


def values(folder: Path, watched: Watched, seed: int) -> list[float]:
    """The metric after each evaluation so far, not of the untrained model, or its mean after each
    fold."""
    own = stage_folder(folder, watched)
    if watched.folds:
        return means_of_folds(own, watched)
    path = own / f"seed-{seed}" / METRICS
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):  # else it is being written
            record = json.loads(line)
            if record["step"] > 0 and watched.tag in record:
                found.append(float(record[watched.tag]))
    return found


def means_of_folds(folder: Path, watched: Watched) -> list[float]:
    """The mean over the first fold, the first two, and so on as far as folds are done."""
    assert watched.folds is not None
    scores: list[float] = []
    means = []
    for number in range(1, watched.folds + 1):
        path = folder / f"fold-{number}" / FOLD_SCORE
        if not path.is_file():
            break
        scores.append(float(provenance.read_json(path)[watched.metric]))
        means.append(sum(scores) / number)
    return means


def score(folder: Path, watched: Watched) -> float | None:
    """The score of a trial that is done; None of one that is not."""
    own = stage_folder(folder, watched)
    if not (own / stages.MANIFEST).is_file():
        return None
    if watched.folds:
        return float(provenance.read_json(own / "crossvalidation.json")["mean"][watched.metric])
    of_task = own / watched.task if watched.is_multitask else own
    report = provenance.read_json(of_task / "report.json")
    return float(report["valid"]["metrics"][watched.metric])


def tidy(folder: Path, watched: Watched) -> None:
    """Delete the weights of a trial that is over: what is kept is trained again, from best.toml."""
    for path in sorted(stage_folder(folder, watched).rglob("*")):
        if path.name in ("checkpoints", "export") and path.is_dir():
            retention.remove(path)
