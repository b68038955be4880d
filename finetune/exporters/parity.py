"""Whether an exported model says what torch says: logits beside logits, score beside score."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.config import Export
from finetune.exporters import speed
from finetune.predict import Predictor
from finetune.task import Dataset, Encoded


@dataclass(frozen=True)
class Measured:
    """A predictor's outputs for rows, what they score, and how long it took from text to answer."""

    encoded: Encoded
    logits: list[NDArray[np.float32]]
    score: float
    num_rows: int
    seconds: float


def measure(predictor: Predictor, rows: Dataset) -> Measured:
    """Run labelled rows."""
    speed.warm_up(predictor, rows)
    start = time.perf_counter()
    encoded = predictor.encode(rows)
    logits = predictor.logits(encoded)
    predictions = predictor.decode(rows, encoded, logits)
    seconds = time.perf_counter() - start
    scores = predictor.plugin.score(rows, predictions, predictor.labels)
    score = float(scores.metrics[predictor.task.metric])
    return Measured(encoded, logits, score, len(rows.rows), seconds)


def differences(wanted: Measured, given: Measured, num_rows: int) -> dict[str, Any]:
    """How far the logits of the first rows are apart, and how often both decide alike."""
    compared = [i for i, window in enumerate(wanted.encoded.windows) if window.row < num_rows]
    ours = np.concatenate([wanted.logits[i] for i in compared])
    theirs = np.concatenate([given.logits[i] for i in compared])
    difference = np.abs(ours - theirs)
    found = {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "outputs_compared": len(ours),
    }
    if ours.shape[1] > 1:
        equal = ours.argmax(axis=-1) == theirs.argmax(axis=-1)
        found["argmax_agreement"] = float(equal.mean())
    return found


def fault(target: str, result: Mapping[str, Any], table: Export) -> str | None:
    """Why a target is not fit to serve; None if it is."""
    difference, drop = result["max_difference"], result["score_before"] - result["score_after"]
    if not target.endswith("int8") and not difference <= table.parity_tolerance:
        return (
            f"the {target} model differs from torch by up to {difference:.3g} in a logit, more "
            f"than export.parity_tolerance ({table.parity_tolerance:g}), and was removed; raise "
            "the tolerance, or try another export.opset of ONNX"
        )
    if not drop <= table.max_score_drop:
        return (
            f"the {target} model scores {result['score_after']:.4f} {result['metric']} on valid, "
            f"torch {result['score_before']:.4f}: a loss of more than export.max_score_drop "
            f"({table.max_score_drop:g}), so it was removed; serve it in fp32, raise the limit, or "
            "give longer export.tflite_lengths"
        )
    return None
