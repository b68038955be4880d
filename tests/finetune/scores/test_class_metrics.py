"""Scores of classes are those of scikit-learn, under our names, and of a pencil."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from finetune.scores import class_metrics
from finetune.scores.class_metrics import SINGLE, calibration, classes, of_counts, row_counts


def test_classes_by_hand() -> None:
    scores = classes(list("aabb"), list("abbb"), ["a", "b"])
    assert scores.report["confusion"] == [[1, 1], [0, 2]]
    assert scores.metrics["accuracy"] == 0.75
    assert scores.metrics["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert scores.metrics["mcc"] == pytest.approx(1 / np.sqrt(3))
    assert set(scores.metrics) == set(SINGLE)


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = ["a", "b", "c", "never seen"]
    gold, predicted = (list(rng.choice(labels[:3], size=50)) for _ in range(2))
    scores = classes(gold, predicted, labels)
    assert scores.metrics["accuracy"] == accuracy_score(gold, predicted)
    assert scores.metrics["mcc"] == pytest.approx(matthews_corrcoef(gold, predicted))
    assert scores.report["confusion"] == confusion_matrix(gold, predicted, labels=labels).tolist()
    for average in ("micro", "macro", "weighted"):
        theirs = precision_recall_fscore_support(
            gold, predicted, labels=labels, average=average, zero_division=0.0
        )[:3]
        ours = [scores.report[average][name] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(theirs)
        assert scores.metrics[f"{average}_f1"] == pytest.approx(theirs[2])


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_probabilities_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = list("abc")
    ids = rng.integers(3, size=60)
    # Few distinct values, so that there are ties.
    table = np.round(rng.dirichlet(np.ones(3), 60), 1) + 0.01
    table /= table.sum(axis=1, keepdims=True)
    gold = [labels[i] for i in ids]
    found = classes(gold, gold, labels, table).metrics
    assert found["auc"] == pytest.approx(roc_auc_score(ids, table, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(log_loss(ids, table))
    one_hot = np.eye(3, dtype=bool)[ids]
    assert class_metrics.average_precision(one_hot, table) == {
        "average_precision": pytest.approx(average_precision_score(one_hot, table))
    }


def test_what_has_no_value_is_that_of_chance() -> None:
    table = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classes(["a", "a"], ["a", "a"], ["a", "b"], table).metrics
    assert found["mcc"] == 0.0
    assert found["auc"] == 0.5
    assert np.isfinite(list(found.values())).all()


def test_calibration_by_hand() -> None:
    # Bin of 0.6-0.667: 0.62 and 0.64, one right; bin of 0.933-1: 0.95, right.
    found = calibration(np.array([True, False, True]), np.array([0.62, 0.64, 0.95]))
    assert found["ece"] == pytest.approx((abs(1 - 1.26) + abs(1 - 0.95)) / 3)
    assert [(row["rows"], row["accuracy"]) for row in found["bins"]] == [(2, 0.5), (1, 1.0)]
    assert found["bins"][0]["confidence"] == pytest.approx(0.63)
    assert calibration(np.array([True]), np.array([1.0]))["ece"] == 0.0


@pytest.mark.parametrize("metric", SINGLE)
def test_weighted_rows_score_like_repeated_rows(metric: str) -> None:
    rng = np.random.default_rng(1)
    labels = list("abcd")
    gold, predicted = (list(rng.choice(labels[:3], size=20)) for _ in range(2))
    weights = rng.integers(3, size=(4, 20)).astype(np.float64)
    found = of_counts(row_counts(gold, predicted, labels), weights, metric)
    for row, value in zip(weights, found, strict=True):
        picked = np.repeat(np.arange(20), row.astype(int))
        scores = classes([gold[i] for i in picked], [predicted[i] for i in picked], labels)
        assert value == pytest.approx(scores.metrics[metric])


def test_area_of_weighted_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    labels = list("abcd")  # no row has d
    gold = list(rng.choice(labels[:3], size=20))
    table = np.round(rng.dirichlet(np.ones(4), 20), 1)  # with ties
    weights = rng.integers(3, size=(4, 20)).astype(np.float64)
    weights[3] = np.array([name == "a" for name in gold])  # one label only: chance
    found = of_counts(row_counts(gold, gold, labels, table), weights, "auc")
    for row, value in zip(weights, found, strict=True):
        picked = np.repeat(np.arange(20), row.astype(int))
        names = [gold[i] for i in picked]
        assert value == pytest.approx(classes(names, names, labels, table[picked]).metrics["auc"])
    assert found[3] == 0.5


def test_label_table_shows_every_label_and_average() -> None:
    table = class_metrics.label_table(classes(list("aabb"), list("abbb"), ["a", "b"]).report)
    lines = [line.split() for line in table.splitlines()]
    assert lines[1] == ["a", "1.000", "0.500", "0.667", "2"]
    assert lines[2] == ["b", "0.667", "1.000", "0.800", "2"]
    assert lines[4] == ["micro", "avg", "0.750", "0.750", "0.750", "4"]
