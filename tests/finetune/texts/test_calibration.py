"""Temperatures find the scale that logits were multiplied by; thresholds the best F1 of all."""

import numpy as np
import pytest

from finetune.task import Encoded, Window
from finetune.texts import calibration

NOTHING = np.zeros(0, dtype=np.int64)


def one_window_each(num_rows: int) -> Encoded:
    return Encoded([Window(i, NOTHING, None, NOTHING, NOTHING, NOTHING) for i in range(num_rows)])


def test_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gold = (rng.random((4000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    for scale in (0.5, 1.0, 4.0):
        found = calibration.temperature(logits * scale, one_window_each(4000), gold)
        assert found["temperature"] == pytest.approx(scale, rel=0.07)
        record = found["calibration"]
        assert record["nll_after"] <= record["nll_before"] + 1e-4
        assert record["ece_after"] < 0.03
    assert record["ece_before"] > 0.1  # four times too sure


def test_rows_that_are_all_right_do_not_make_it_certain() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    found = calibration.temperature(logits, one_window_each(2), np.array([0, 1]))
    # Gold counts as 1 - 1/4: the logit difference becomes ln 3.
    assert found["temperature"] == pytest.approx(2 / np.log(3), rel=0.01)


def test_one_threshold_or_one_a_label() -> None:
    scores = np.array([[0.9, 0.2], [0.8, 0.1], [0.1, 0.05]])
    gold = np.array([[True, True], [True, False], [False, False]])
    assert len(set(calibration.thresholds(gold, scores, False))) == 1
    assert calibration.thresholds(gold, scores, True) == pytest.approx([0.45, 0.15])
    gold[:, 1] = False  # a label that valid lacks has the common one
    assert calibration.thresholds(gold, scores, True) == pytest.approx([0.45, 0.5])
