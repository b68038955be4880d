"""What predicted numbers are worth: correlations and errors, in the unit of the labels.

A correlation with something constant is 0 by contract.
"""

import numpy as np
from numpy.typing import NDArray

from finetune.scores import metrics
from finetune.task import Scores

Floats = NDArray[np.float64]
CHOOSING = ("pearson", "spearman", "r2")  # higher is better
ROUNDING = 1e-24  # a spread smaller than this share of the squares is none


def values(gold: Floats, predicted: Floats) -> Scores:
    """Pearson and Spearman correlation, share of variance explained, mean absolute error and root
    mean squared error."""
    counts = row_counts(gold, predicted)
    once = np.ones((1, len(counts)))
    found = {name: float(of_counts(counts, once, name)[0]) for name in CHOOSING}
    errors = predicted - gold
    found["mae"] = float(np.abs(errors).mean())
    found["rmse"] = float(np.sqrt((errors**2).mean()))
    report = {
        name: {"mean": float(column.mean()), "deviation": float(column.std())}
        for name, column in (("gold", gold), ("predicted", predicted))
    }
    return Scores(found, report)


def row_counts(gold: Floats, predicted: Floats) -> Floats:
    """Both numbers of each row, (rows, 2)."""
    return np.stack([gold, predicted], axis=1).astype(np.float64)


def of_counts(counts: Floats, weights: Floats, metric: str) -> Floats:
    """A metric of resamples in which row i occurs weights[r, i] times; ranks are those of the
    resample."""
    gold, predicted = (np.broadcast_to(column, weights.shape) for column in counts.T)
    if metric == "r2":
        spread = spread_of(gold, centred(gold, weights), weights)
        errors = (weights * (gold - predicted) ** 2).sum(axis=1)
        return np.where(spread > 0, 1.0 - metrics.divided(errors, spread), 0.0)
    if metric == "spearman":
        gold, predicted = (ranks(column, weights) for column in counts.T)
    return correlation(gold, predicted, weights)


def correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's correlation of weighted rows, all (R, rows)."""
    away_x, away_y = centred(x, weights), centred(y, weights)
    spread = spread_of(x, away_x, weights) * spread_of(y, away_y, weights)
    together = (weights * away_x * away_y).sum(axis=1)
    return np.clip(metrics.divided(together, np.sqrt(spread)), -1.0, 1.0)


def centred(column: Floats, weights: Floats) -> Floats:
    """Distances from the weighted mean."""
    mean = (weights * column).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    return np.asarray(column - mean)


def spread_of(column: Floats, away: Floats, weights: Floats) -> Floats:
    """Weighted sum of squared distances from the mean, 0 where they are mere rounding."""
    found = (weights * away**2).sum(axis=1)
    return np.where(found > ROUNDING * (weights * column**2).sum(axis=1), found, 0.0)


def ranks(column: Floats, weights: Floats) -> Floats:
    """The mean rank of each row in every resample, ties sharing theirs: (R, rows)."""
    _, groups = np.unique(column, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)  # (R, distinct values)
    found: Floats = (np.cumsum(sizes, axis=1) - sizes / 2 + 0.5)[:, groups]
    return found
