"""Scores of numbers are those of scipy and scikit-learn, and of a pencil."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from finetune.scores.value_metrics import CHOOSING, of_counts, row_counts, values


def test_by_hand() -> None:
    found = values(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 7.0])).metrics
    assert found["spearman"] == 1.0
    assert found["pearson"] == pytest.approx(5 / np.sqrt(2 * 14))
    assert found["mae"] == pytest.approx(2.0)
    assert found["rmse"] == pytest.approx(np.sqrt(6))
    assert found["r2"] == pytest.approx(1 - 18 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scipy_and_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.integers(5, size=30).astype(np.float64)  # with ties
    predicted = np.round(gold + rng.normal(size=30), 1)
    found = values(gold, predicted).metrics
    assert found["pearson"] == pytest.approx(pearsonr(gold, predicted).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(gold, predicted).statistic)
    assert found["r2"] == pytest.approx(r2_score(gold, predicted))
    assert found["mae"] == pytest.approx(mean_absolute_error(gold, predicted))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(gold, predicted))


def test_correlation_with_a_constant_is_zero() -> None:
    found = values(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1)).metrics
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)
    assert values(np.full(3, 0.1), np.array([1.0, 2.0, 3.0])).metrics["r2"] == 0.0


@pytest.mark.parametrize("metric", CHOOSING)
def test_weighted_rows_score_like_repeated_rows(metric: str) -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(4, size=12).astype(np.float64)
    predicted = np.round(gold + rng.normal(size=12), 1)
    weights = rng.integers(3, size=(4, 12)).astype(np.float64)
    found = of_counts(row_counts(gold, predicted), weights, metric)
    for row, value in zip(weights, found, strict=True):
        picked = np.repeat(np.arange(12), row.astype(int))
        assert value == pytest.approx(values(gold[picked], predicted[picked]).metrics[metric])
