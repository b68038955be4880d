"""What a model that knows nothing loses a target, in the units of the task's loss.

A task's loss is divided by it, so that a weight of 1 means the same for 3 labels as for 150, and
for a regression: every loss begins near 1.
"""

import math
from collections.abc import Sequence

import numpy as np

from finetune.task import Loss, Window


def of(loss: Loss, num_labels: int, windows: Sequence[Window]) -> float:
    """Of a task with these training windows.

    Cross-entropy and a CRF give every label the same probability: ln L. The focal loss of that is
    (1 - 1 / L) ** gamma times as much; of a yes or no it is ln 2. Squared errors are those of
    always saying the mean: the variance of the training targets (1 if they are standardised).
    """
    if loss.kind == "binary":
        return math.log(2)
    if loss.kind == "squared":
        values = np.concatenate([window.targets for window in windows])  # (N, L)
        is_known = ~np.isnan(values)
        deviations = np.where(is_known, values - mean(values, is_known), 0.0)
        variance = float((deviations**2).sum() / max(is_known.sum(), 1))
        return variance or 1.0
    norm = math.log(num_labels)
    return norm * (1 - 1 / num_labels) ** loss.gamma if loss.kind == "focal" else norm


def mean(values: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Of each column's known values, (1, L); 0 where none is."""
    count = is_known.sum(axis=0, keepdims=True)
    total = np.where(is_known, values, 0.0).sum(axis=0, keepdims=True)
    return np.asarray(total / np.maximum(count, 1))
