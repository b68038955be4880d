"""What classes are worth: one label a row, or several.

Counts are numpy's, scores that rank probabilities are checked against scikit-learn in the tests.
Scores whose denominator is 0 are 0. A label that every row has, or none, has no area under a curve;
where no label has one, the area under the ROC curve is that of chance, 0.5, and the average
precision is left out. Nothing is ever NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from finetune.scores import metrics
from finetune.task import Scores

Floats = NDArray[np.float64]
BINS = 15  # of confidence, equally wide (Guo et al. 2017, arXiv 1706.04599)
CHANCE = 0.5  # area under the ROC curve of scores that know nothing
SMALLEST = float(np.finfo(np.float32).eps)  # probability, as scikit-learn clips for the log loss


def classes(
    gold: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    probabilities: NDArray[np.floating[Any]] | None = None,
) -> Scores:
    """Accuracy, F1, Matthews correlation, confusion matrix (rows gold, columns predicted); with
    probabilities (rows, L) also the area under the ROC curve, log loss and calibration."""
    true, guess = (metrics.ids_of(names, labels) for names in (gold, predicted))
    report = metrics.by_label(gold, predicted, labels)
    counts = row_counts(gold, predicted, labels)
    once = np.ones((1, len(counts)))
    found = {name: float(of_counts(counts, once, name)[0]) for name in SINGLE}
    size = len(labels) + 1
    confusion = np.bincount(true * size + guess, minlength=size * size).reshape(size, size)
    report |= {"labels": list(labels), "confusion": confusion[:-1, :-1].tolist()}
    if probabilities is not None:
        found |= ranked(true, probabilities)
        report["calibration"] = calibration(guess == true, probabilities.max(axis=1))
        found["ece"] = report["calibration"]["ece"]
    return Scores(found, report)


SINGLE = ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc")


def row_counts(
    gold: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    probabilities: NDArray[np.floating[Any]] | None = None,
) -> Floats:
    """Of each row the number of its gold label, of its predicted one, and how many labels there
    are, (rows, 3), then the probabilities, (rows, L): without them there is no `auc`."""
    columns = (metrics.ids_of(names, labels) for names in (gold, predicted))
    found = np.stack([*columns, np.full(len(gold), len(labels))], axis=1).astype(np.float64)
    return found if probabilities is None else np.concatenate([found, probabilities], axis=1)


def of_counts(counts: Floats, weights: Floats, metric: str) -> Floats:
    """A metric of resamples in which row i occurs weights[r, i] times."""
    num_labels = int(counts[0, 2])
    true, guess = counts[:, 0].astype(np.int64), counts[:, 1].astype(np.int64)
    if metric == "auc":
        return weighted_areas(true[:, None] == np.arange(num_labels), counts[:, 3:], weights)
    gold, predicted, right = (
        weights @ one_hot(rows, ids, len(counts), num_labels + 1)
        for rows, ids in ((None, true), (None, guess), (np.flatnonzero(true == guess), true))
    )  # (R, L + 1) each; the last column: a label outside the set
    totals = weights.sum(axis=1)
    if metric == "accuracy":
        return metrics.divided(right.sum(axis=1), totals)
    if metric == "mcc":
        # The correlation of K categories (Gorodkin 2004) needs no more than these sums.
        covariance = right.sum(axis=1) * totals - (gold * predicted).sum(axis=1)
        spread = (totals**2 - (predicted**2).sum(axis=1)) * (totals**2 - (gold**2).sum(axis=1))
        return metrics.divided(covariance, np.sqrt(np.maximum(spread, 0.0)))
    return f1(right[:, :-1], predicted[:, :-1], gold[:, :-1], metric)


def one_hot(rows: NDArray[np.int64] | None, ids: NDArray[np.int64], num: int, width: int) -> Any:
    """A sparse (num, width) matrix with a one for the number of each row, or of these rows."""
    places = np.arange(num) if rows is None else rows
    return csr_array((np.ones(len(places)), (places, ids[places])), shape=(num, width))


def f1(right: Floats, predicted: Floats, gold: Floats, average: str) -> Floats:
    """`micro_f1`, `macro_f1` or `weighted_f1` of sums (R, L)."""
    if average == "micro_f1":
        sums = (part.sum(axis=1) for part in (right, predicted, gold))
        return metrics.precision_recall_f1(*sums)[2]
    each = metrics.precision_recall_f1(right, predicted, gold)[2]
    if average == "macro_f1":
        return np.asarray(each.mean(axis=1))
    return metrics.divided((each * gold).sum(axis=1), gold.sum(axis=1))


def ranked(gold: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Log loss, and the macro average of each label's area under the ROC curve against the rest."""
    chosen = probabilities[np.arange(len(gold)), np.minimum(gold, probabilities.shape[1] - 1)]
    is_gold = gold[:, None] == np.arange(probabilities.shape[1])
    found = {"log_loss": float(-np.log(np.maximum(chosen, SMALLEST).astype(np.float64)).mean())}
    return found | {"auc": mean_area(is_gold, probabilities)}


def mean_area(is_gold: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> float:
    """The mean area under the ROC curves of the labels that have one, else that of chance."""
    found = areas(is_gold, scores)
    return float(found.mean()) if len(found) else CHANCE


def areas(is_gold: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> Floats:
    """The area under the ROC curve of each label that some rows have and some do not."""
    positive = is_gold.sum(axis=0)
    defined = (positive > 0) & (positive < len(is_gold))
    is_gold, scores, positive = is_gold[:, defined], scores[:, defined], positive[defined]
    ranks = np.array([mean_ranks(column) for column in scores.T]).reshape(scores.T.shape).T
    above = (ranks * is_gold).sum(axis=0) - positive * (positive + 1) / 2
    return np.asarray(above / (positive * (len(is_gold) - positive)), np.float64)


def mean_ranks(values: NDArray[np.floating[Any]]) -> Floats:
    """From 1 for the lowest; equal values share the mean of their ranks. (scipy.stats has this, and
    takes a second to import.)"""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return found


def weighted_areas(
    is_gold: NDArray[np.bool_], scores: NDArray[np.floating[Any]], weights: Floats
) -> Floats:
    """The mean area of each resample (R,), in which row i occurs weights[r, i] times."""
    times = np.ascontiguousarray(weights.T, dtype=np.float32)  # (rows, R) whole numbers: exact
    total, count = np.zeros(len(weights)), np.zeros(len(weights))
    for k in np.flatnonzero(is_gold.any(axis=0) & ~is_gold.all(axis=0)):
        positive, below, negatives = ranked_weights(is_gold[:, k], scores[:, k], times)
        pairs = positive.sum(axis=0) * negatives
        total += metrics.divided((positive * below).sum(axis=0), pairs)
        count += pairs > 0
    return np.where(count > 0, metrics.divided(total, count), CHANCE)


def ranked_weights(
    is_gold: NDArray[np.bool_], scores: NDArray[np.floating[Any]], times: NDArray[np.float32]
) -> tuple[Floats, Floats, Floats]:
    """For every score that a gold row has, by rising score: the weight of its gold rows (S, R),
    and the weight of the others below it, those with the same score by half. Last, the weight of
    all others (R,)."""
    _, groups = np.unique(scores, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    groups, is_gold = groups[order], is_gold[order]
    wanted, starts = np.unique(groups[is_gold], return_index=True)
    positive = np.add.reduceat(times[order[is_gold]], starts, axis=0).astype(np.float64)
    # Scores without gold rows are summed up to the next with one: most rows are only read.
    edges = (np.searchsorted(groups, wanted, side=side) for side in ("left", "right"))
    borders = np.unique(np.concatenate([[0], *edges]))
    borders = borders[borders < len(groups)]
    negative = np.add.reduceat(times[order], borders, axis=0).astype(np.float64)
    places = np.searchsorted(borders, np.searchsorted(groups, wanted))
    negative[places] -= positive
    upto = np.cumsum(negative, axis=0)
    return positive, upto[places] - negative[places] / 2, upto[-1]


def mean_of(name: str, values: Floats) -> dict[str, float]:
    """The mean under this name; nothing if there is no value."""
    return {name: float(values.mean())} if len(values) else {}


def average_precision(
    is_gold: NDArray[np.bool_], scores: NDArray[np.floating[Any]]
) -> dict[str, float]:
    """The mean, over the labels that some row has, of the area under the precision-recall curve
    (average precision). Takes a millisecond a label."""
    from sklearn.metrics import average_precision_score  # 1.5 seconds

    named = is_gold.any(axis=0)
    values = [average_precision_score(is_gold[:, k], scores[:, k]) for k in np.flatnonzero(named)]
    return mean_of("average_precision", np.array(values))


def calibration(is_right: NDArray[np.bool_], confidence: NDArray[Any]) -> dict[str, Any]:
    """Expected calibration error, and share right and mean confidence of each bin that has rows."""
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    sums = [np.bincount(places, column, BINS) for column in (confidence, is_right)]
    bins = [
        {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "confidence": float(sums[0][k] / counts[k]),
            "accuracy": float(sums[1][k] / counts[k]),
            "rows": int(counts[k]),
        }
        for k in np.flatnonzero(counts).tolist()
    ]
    gap = float(np.abs(sums[0] - sums[1]).sum())
    return {"ece": metrics.ratio(gap, len(is_right)), "bins": bins}


def label_table(report: Mapping[str, Any]) -> str:
    """Scores by label and averaged, as scikit-learn prints them."""
    rows = {
        **report["by_label"],
        **{f"{average} avg": report[average] for average in metrics.AVERAGES},
    }
    width = max(map(len, rows))
    titles = ("precision", "recall", "f1", "support")
    found = [" " * width + "".join(f"{title:>11}" for title in titles)]
    for name, scores in rows.items():
        if name == f"{metrics.AVERAGES[0]} avg":
            found.append("")
        cells = "".join(f"{scores[title]:11.3f}" for title in titles[:3])
        found.append(f"{name:>{width}}{cells}{scores['support']:11d}")
    return "\n".join(found)
