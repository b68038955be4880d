"""The probability from which something is predicted, for the best F1 on rows whose answer is known.

Scores on the rows it was fitted on are a little too good; those on test rows are not.
"""

import numpy as np
from numpy.typing import NDArray

HALF = 0.5


def best_threshold(
    is_gold: NDArray[np.bool_],
    scores: NDArray[np.float64],
    without: float,
    num_gold: int | None = None,
) -> float:
    """Where F1 is best (of several places the highest), halfway to the next score below; `without`
    if nothing is gold. `num_gold` counts also what has no score; None: all have one."""
    if not is_gold.any():
        return without
    order = np.argsort(-scores, kind="stable")
    falling = np.append(scores[order], 0.0)
    right = np.cumsum(is_gold[order])
    num_wanted = is_gold.sum() if num_gold is None else num_gold
    f1 = 2 * right / (np.arange(1, len(order) + 1) + num_wanted)
    ends = np.flatnonzero(falling[:-1] > falling[1:])  # equal scores stay together
    if not len(ends):
        return without
    best = ends[f1[ends].argmax()]
    return float((falling[best] + falling[best + 1]) / 2)
