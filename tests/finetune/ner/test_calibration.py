"""The temperature is the one that was put in, and what it changed is measured."""

import numpy as np
import pytest

from finetune.ner import calibration
from finetune.ner.chain import chain_of
from finetune.ner.windows import Outputs

LABELS = ["O", "B-X", "I-X"]


def outputs(num: int, sharpness: float, seed: int = 0) -> list[Outputs]:
    """Tags drawn from the chain of some scores, with the scores made sharper by a factor."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < num:
        scores = rng.normal(size=(6, 3)) * 1.5
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        drawn = np.array([rng.choice(3, p=row) for row in chances])
        if calibration.is_possible(drawn, chain_of(LABELS, {})):  # rejection: exactly the chain's
            sharp = (scores * sharpness).astype(np.float32)
            found.append(Outputs(np.arange(6), sharp, drawn))
    return found


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_what_was_done_to_the_scores(sharpness: float) -> None:
    found = calibration.fit(outputs(600, sharpness), chain_of(LABELS, {}))
    assert found["temperature"] == pytest.approx(sharpness, rel=0.12)
    measured = found["calibration"]
    assert measured["sentences"] == 600
    assert measured["nll_after"] <= measured["nll_before"]
    if sharpness == 4.0:
        assert measured["ece_before"] > 0.2
        assert measured["ece_after"] < 0.06


def test_likelihood_by_hand() -> None:
    """Two tags for one word: the two that may begin a sentence."""
    scores = np.array([[[0.0, -1.0, -0.5]]])
    value = calibration.nll(scores, np.array([1]), [np.array([1])], chain_of(LABELS, {}))
    assert value == pytest.approx(1.0 + np.log(1.0 + np.exp(-1.0)))


def test_rows_that_say_nothing_leave_it_alone() -> None:
    chain = chain_of(LABELS, {})
    unknown = Outputs(np.arange(1), np.zeros((1, 3), np.float32), np.array([-100]))
    empty = Outputs(np.arange(0), np.zeros((0, 3), np.float32), np.zeros(0, dtype=np.int64))
    assert calibration.fit([unknown, empty], chain) == {"temperature": 1.0}


def test_outside_only_is_no_reason_to_divide_by_zero() -> None:
    scores = np.array([[2.0, 0.0, 0.0]], dtype=np.float32)
    found = calibration.fit([Outputs(np.arange(1), scores, np.array([0]))], chain_of(LABELS, {}))
    assert found["calibration"]["ece_after"] == 0.0


def test_rows_that_are_all_right_do_not_ask_for_certainty() -> None:
    scores = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 6
    right = [Outputs(np.arange(4), scores, np.array([0, 1, 2, 0]))] * 5
    assert 0.8 < calibration.fit(right, chain_of(LABELS, {}))["temperature"] < 1.0


def test_the_threshold_parts_right_from_wrong() -> None:
    """Beginnings at 0.3 are wrong, those at 0.4 right: nobody knows but the rows."""

    def row(chance: float, is_right: bool) -> Outputs:
        scores = np.array([[0.0, np.log(chance / (1 - chance)), -99.0]], dtype=np.float32)
        return Outputs(np.arange(1), scores, np.array([1 if is_right else 0]))

    def threshold(rows: list[Outputs]) -> float:
        return calibration.choose(rows, chain_of(LABELS, {}))["threshold"]

    rows = [row(0.3, False), row(0.4, True), row(0.8, True)] * 5
    assert threshold(rows) == pytest.approx(0.35, abs=1e-3)
    assert threshold([row(0.9, True), row(0.2, False)]) == pytest.approx(0.55)
    assert threshold([row(0.99, True), row(0.98, False)]) == 0.6  # bounded
    assert threshold([row(0.9, False)]) == 0.5  # says nothing
    unknown = Outputs(np.arange(1), np.zeros((1, 3), np.float32), np.array([-100]))
    measured = calibration.choose(rows, chain_of(LABELS, {}))
    assert measured["f1_before"] == pytest.approx(2 * 5 / (5 + 10))  # only those at 0.8
    assert measured["f1_after"] == 1.0
    assert threshold([unknown]) == 0.5
