"""Probabilities from logits, in numpy: decoding needs no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Log probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The probability of each cell by itself; exact on both sides, without overflow."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return np.asarray(np.where(logits >= 0, 1.0, small) / (1.0 + small))
