"""Precision against recall of each label, as few points as a picture needs.

What is positive, and how sure the model was, comes from a task's plug-in (`curves`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_LABELS = 10  # that are drawn: the most frequent
MOST_POINTS = 120  # of a curve

# Is positive, and how sure the model was; 0: it never said so (an entity that was not found).
Scored = tuple[Sequence[bool], Sequence[float]]


def most_frequent(found: Mapping[str, Scored]) -> dict[str, Scored]:
    """The labels that are drawn, most frequent first; those without a positive have no curve."""
    counts = {name: int(np.sum(positive)) for name, (positive, _) in found.items()}
    names = sorted((name for name in found if counts[name]), key=lambda name: -counts[name])
    return {name: found[name] for name in names[:MOST_LABELS]}


def points(found: Mapping[str, Scored]) -> dict[str, dict[str, Any]]:
    """Recall and precision by label, from the highest threshold to the lowest, with the average
    precision (the area below the steps) and the number of positives."""
    return {name: curve(*pair) for name, pair in most_frequent(found).items()}


def curve(is_positive: Sequence[bool], scores: Sequence[float]) -> dict[str, Any]:
    claims, values = np.asarray(is_positive, bool), np.asarray(scores, np.float64)
    support, is_made = int(claims.sum()), values > 0
    claims, values = claims[is_made], values[is_made]
    share = claims.sum() / support  # what can be recalled
    if not share:
        return {"recall": [0.0], "precision": [1.0], "average_precision": 0.0, "support": support}
    # late: 1.5 seconds, and with it comes a thread, which processes that fork must not have
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(claims, values)
    precision, recall = precision[::-1], recall[::-1] * share  # from recall 0
    kept = np.unique(np.linspace(0, len(recall) - 1, MOST_POINTS).round().astype(int))
    return {
        "recall": [round(float(value), 4) for value in recall[kept]],
        "precision": [round(float(value), 4) for value in precision[kept]],
        "average_precision": float(average_precision_score(claims, values) * share),
        "support": support,
    }
