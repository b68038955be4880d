"""The best F1 of all thresholds."""

import numpy as np
import pytest

from finetune.scores.threshold import best_threshold


def test_threshold_by_hand() -> None:
    scores = np.array([0.9, 0.6, 0.4, 0.2])
    gold = np.array([True, False, True, False])
    # From 0.4 on: 2 of 3 right, F1 0.8; from 0.9: F1 2/3.
    assert best_threshold(gold, scores, 0.5) == pytest.approx(0.3)
    assert best_threshold(np.zeros(4, dtype=bool), scores, 0.5) == 0.5
    assert best_threshold(np.array([True]), np.array([0.0]), 0.5) == 0.5


def test_no_other_threshold_is_better() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        scores = np.round(rng.random(12), 1)  # with ties
        gold = rng.random(12) < 0.4
        best = best_threshold(gold, scores, 0.5)

        def f1(limit: float, scores: np.ndarray = scores, gold: np.ndarray = gold) -> float:
            given = scores >= limit
            return 2 * (given & gold).sum() / max(given.sum() + gold.sum(), 1)

        assert f1(best) == max(f1(limit) for limit in [best, *np.arange(0.001, 1.1, 0.05)])


def test_gold_without_a_score_is_counted() -> None:
    scores = np.array([0.9, 0.6, 0.3])
    gold = np.array([True, False, True])
    # One more is found nowhere. From 0.9: F1 2/4; from 0.3: 2 of 3 right, 4/6.
    assert best_threshold(gold, scores, 0.5, num_gold=3) == pytest.approx(0.15)
    # With twenty of them everything that is right pays still.
    assert best_threshold(gold, scores, 0.5, num_gold=22) == pytest.approx(0.15)
