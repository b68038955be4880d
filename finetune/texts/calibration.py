"""What is fitted on valid rows after training, so that probabilities mean what they say.

A single label: one temperature for all logits (Guo et al. 2017, arXiv 1706.04599). Sets of labels:
the probability from which a label counts as given. Scores on the rows they were fitted on are a
little too good; those on test rows are not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from finetune.scores import class_metrics
from finetune.scores.threshold import HALF, best_threshold
from finetune.task import Encoded
from finetune.texts.text_windows import class_probabilities

Floats = NDArray[np.float64]
LARGEST = 20.0  # the temperature is looked for between this and one over it
SMALLEST = 1e-12  # probability, in a logarithm


def temperature(logits: Floats, encoded: Encoded, gold: NDArray[np.int64]) -> dict[str, Any]:
    """The temperature that makes the gold classes (rows,) most likely, and what it changed.

    As Platt (1999) does, gold counts as 1 - 1 / (rows + 2) and the other classes share the rest:
    rows that are all right would ask for certainty.
    """
    num_rows, num_labels = len(gold), logits.shape[1]
    rest = 1.0 / (num_rows + 2)
    wanted = np.full((num_rows, num_labels), rest / (num_labels - 1))
    wanted[np.arange(num_rows), gold] = 1.0 - rest

    def cost(log_temperature: float) -> float:
        found = class_probabilities(logits, encoded, num_rows, float(np.exp(log_temperature)))
        return -float((wanted * np.log(np.maximum(found, SMALLEST))).sum()) / num_rows

    limit = float(np.log(LARGEST))
    best = minimize_scalar(cost, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-3})
    fitted = round(float(np.exp(best.x)), 4)
    record: dict[str, Any] = {"rows": num_rows}
    for name, value in (("before", 1.0), ("after", fitted)):
        found = class_probabilities(logits, encoded, num_rows, value)
        chosen = np.maximum(found[np.arange(num_rows), gold], SMALLEST)
        is_right = found.argmax(axis=1) == gold
        record[f"nll_{name}"] = -float(np.log(chosen).mean())  # nats a row
        record[f"ece_{name}"] = class_metrics.calibration(is_right, found.max(axis=1))["ece"]
    return {"temperature": fitted, "calibration": record}


def thresholds(gold: NDArray[np.bool_], found: Floats, is_per_label: bool) -> list[float]:
    """The probability from which each label counts, for the best F1: over all cells (rows, L), or
    of each label by itself (with the common one for labels that no row has)."""
    common = best_threshold(gold.ravel(), found.ravel(), HALF)
    if not is_per_label:
        return [common] * gold.shape[1]
    return [best_threshold(gold[:, k], found[:, k], common) for k in range(gold.shape[1])]
