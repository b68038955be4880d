"""What sets of labels are worth: any number of labels a row.

A row's labels are one line of a table (rows, L) of truth values. F1 counts label by label; the
subset accuracy counts rows whose whole set is right.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.scores import class_metrics, metrics
from finetune.task import Scores

Floats = NDArray[np.float64]
Table = NDArray[np.bool_]
METRICS = ("micro_f1", "macro_f1", "weighted_f1", "subset_accuracy")


def label_sets(
    gold: Table,
    predicted: Table,
    labels: Sequence[str],
    probabilities: NDArray[np.floating[Any]] | None = None,
) -> Scores:
    """Subset accuracy, F1 by label and averaged, Hamming loss; with probabilities (rows, L) also
    the mean area under the labels' ROC curves and the mean calibration error over all cells."""
    right = (gold & predicted).sum(axis=0)
    each, averages = metrics.scored_labels(labels, right, predicted.sum(axis=0), gold.sum(axis=0))
    counts = row_counts(gold, predicted)
    once = np.ones((1, len(counts)))
    found = {name: float(of_counts(counts, once, name)[0]) for name in METRICS}
    found["hamming_loss"] = float((gold != predicted).mean())
    report: dict[str, Any] = {
        "by_label": each,
        **averages,
        "labels_per_row": {"gold": mean_size(gold), "predicted": mean_size(predicted)},
    }
    if probabilities is not None:
        found["auc"] = class_metrics.mean_area(gold, probabilities)
        cells = probabilities.ravel()
        report["calibration"] = class_metrics.calibration(gold.ravel(), cells)
        found["ece"] = report["calibration"]["ece"]
    return Scores(found, report)


def mean_size(table: Table) -> float:
    """Labels a row."""
    return float(table.sum(axis=1).mean())


def row_counts(
    gold: Table, predicted: Table, probabilities: NDArray[np.floating[Any]] | None = None
) -> Floats:
    """Of each row how many labels there are, whether all are right, and which are right,
    predicted and gold, (rows, 2 + 3 L), then the probabilities, (rows, L): without them there is
    no `auc`."""
    whole = (gold == predicted).all(axis=1, keepdims=True)
    size = np.full((len(gold), 1), gold.shape[1])
    last = [] if probabilities is None else [probabilities]
    parts = [size, whole, gold & predicted, predicted, gold, *last]
    return np.concatenate(parts, axis=1).astype(np.float64)


def of_counts(counts: Floats, weights: Floats, metric: str) -> Floats:
    """A metric of resamples in which row i occurs weights[r, i] times."""
    if metric == "subset_accuracy":
        return metrics.divided(weights @ counts[:, 1], weights.sum(axis=1))
    size = int(counts[0, 0])
    if metric == "auc":
        gold, probabilities = np.split(counts[:, 2 + 2 * size :], 2, axis=1)
        return class_metrics.weighted_areas(gold > 0, probabilities, weights)
    right, predicted, gold = np.split(weights @ counts[:, 2 : 2 + 3 * size], 3, axis=1)
    return class_metrics.f1(right, predicted, gold, metric)


def ranking_precision(gold: Table, probabilities: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Label ranking average precision (Tsoumakas et al. 2010) of the rows that have a label."""
    from sklearn.metrics import label_ranking_average_precision_score  # 1.5 seconds

    some = gold.any(axis=1)
    if not some.any():
        return {}
    value = label_ranking_average_precision_score(gold[some], probabilities[some])
    return {"lrap": float(value)}
