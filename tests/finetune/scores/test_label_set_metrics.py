"""Scores of sets of labels are those of scikit-learn, and of a pencil."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    f1_score,
    hamming_loss,
    label_ranking_average_precision_score,
    roc_auc_score,
)

from finetune.scores.label_set_metrics import (
    METRICS,
    label_sets,
    of_counts,
    ranking_precision,
    row_counts,
)

LABELS = ["a", "b", "c"]


def table(*rows: str) -> NDArray[np.bool_]:
    return np.array([[label in row for label in LABELS] for row in rows])


def test_by_hand() -> None:
    scores = label_sets(table("a", "ab", ""), table("a", "a", "c"), LABELS)
    assert scores.metrics["subset_accuracy"] == pytest.approx(1 / 3)
    assert scores.metrics["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert scores.metrics["macro_f1"] == pytest.approx(1 / 3)  # a 1, b and c 0
    assert scores.metrics["hamming_loss"] == pytest.approx(2 / 9)
    assert scores.report["by_label"]["a"]["support"] == 2
    assert scores.report["labels_per_row"] == {"gold": 1.0, "predicted": 1.0}


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold, predicted = rng.random((40, 3)) < 0.4, rng.random((40, 3)) < 0.4
    probabilities = np.round(rng.random((40, 3)), 1)
    found = label_sets(gold, predicted, LABELS, probabilities).metrics
    for average in ("micro", "macro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(f1_score(gold, predicted, average=average))
    assert found["subset_accuracy"] == (gold == predicted).all(axis=1).mean()
    assert found["hamming_loss"] == pytest.approx(hamming_loss(gold, predicted))
    assert found["auc"] == pytest.approx(roc_auc_score(gold, probabilities))
    some = gold.any(axis=1)
    assert ranking_precision(gold, probabilities)["lrap"] == pytest.approx(
        label_ranking_average_precision_score(gold[some], probabilities[some])
    )


def test_rows_without_any_label_have_no_ranking() -> None:
    assert ranking_precision(table("", ""), np.ones((2, 3))) == {}
    found = label_sets(table("", ""), table("", ""), LABELS, np.zeros((2, 3))).metrics
    assert found["subset_accuracy"] == 1.0
    assert found["micro_f1"] == 0.0
    assert found["auc"] == 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_weighted_rows_score_like_repeated_rows(metric: str) -> None:
    rng = np.random.default_rng(1)
    gold, predicted = rng.random((15, 3)) < 0.4, rng.random((15, 3)) < 0.4
    weights = rng.integers(3, size=(4, 15)).astype(np.float64)
    found = of_counts(row_counts(gold, predicted), weights, metric)
    for row, value in zip(weights, found, strict=True):
        picked = np.repeat(np.arange(15), row.astype(int))
        scores = label_sets(gold[picked], predicted[picked], LABELS)
        assert value == pytest.approx(scores.metrics[metric])


def test_area_of_weighted_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(3)
    gold, probabilities = rng.random((15, 3)) < 0.4, np.round(rng.random((15, 3)), 1)
    weights = rng.integers(3, size=(4, 15)).astype(np.float64)
    found = of_counts(row_counts(gold, gold, probabilities), weights, "auc")
    for row, value in zip(weights, found, strict=True):
        picked = np.repeat(np.arange(15), row.astype(int))
        scores = label_sets(gold[picked], gold[picked], LABELS, probabilities[picked])
        assert value == pytest.approx(scores.metrics["auc"])
