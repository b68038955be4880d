"""Scores are those of seqeval (strict, IOB2) and scikit-learn, under our names, and of a pencil."""

import warnings

import numpy as np
import pytest
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_scores
from seqeval.scheme import IOB2
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from finetune import metrics, tags

LABELS = tags.tag_set(["LOC", "PER", "a-b"])


def test_entities_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["B-PER", "O"]]
    scores = metrics.tagging(gold, predicted, tags.tag_set(["LOC", "PER"]))
    # Right: the first LOC. Predicted: 3 entities. Gold: 3 entities.
    assert scores.metrics["precision"] == scores.metrics["recall"] == pytest.approx(1 / 3)
    by_type = scores.report["entities"]["by_type"]
    assert by_type["LOC"] == pytest.approx(
        {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    )
    assert by_type["PER"]["f1"] == 0.0
    assert scores.metrics["token_accuracy"] == pytest.approx(4 / 6)
    assert scores.report["entities"]["mode"] == "strict"
    assert scores.report["entities"]["scheme"] == "IOB2"


def test_classes_by_hand() -> None:
    scores = metrics.classes(list("aabb"), list("abbb"), ["a", "b"])
    assert scores.report["confusion"] == [[1, 1], [0, 2]]
    assert scores.metrics["accuracy"] == 0.75
    assert scores.metrics["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert scores.metrics["mcc"] == pytest.approx(1 / np.sqrt(3))


def random_tags(rng: np.random.Generator) -> list[list[str]]:
    rows = [list(rng.choice(LABELS, size=rng.integers(1, 9))) for _ in range(30)]
    return [tags.iob2(tags.spans(row), len(row)) for row in rows]


@pytest.mark.parametrize("seed", range(5))
def test_entity_scores_equal_seqeval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = random_tags(rng)
    noise = random_tags(rng)
    predicted = [
        g if rng.random() < 0.5 else tags.iob2(tags.spans((n * len(g))[: len(g)]), len(g))
        for g, n in zip(gold, noise, strict=True)
    ]
    report = metrics.tagging(gold, predicted, LABELS).report["entities"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average in ("micro", "macro", "weighted"):
            theirs = seqeval_scores(gold, predicted, average=average, scheme=IOB2, zero_division=0)
            assert list(report[average].values()) == pytest.approx(theirs)
        columns = seqeval_scores(gold, predicted, average=None, scheme=IOB2, zero_division=0)
    ours = np.array([list(row.values()) for row in report["by_type"].values()]).T
    assert ours == pytest.approx(np.array(columns))


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = ["a", "b", "c", "never seen"]
    gold, predicted = (list(rng.choice(labels[:3], size=50)) for _ in range(2))
    scores = metrics.classes(gold, predicted, labels)
    assert scores.metrics["accuracy"] == accuracy_score(gold, predicted)
    assert scores.metrics["mcc"] == pytest.approx(matthews_corrcoef(gold, predicted))
    assert scores.report["confusion"] == confusion_matrix(gold, predicted, labels=labels).tolist()
    for average in ("micro", "macro", "weighted"):
        theirs = precision_recall_fscore_support(
            gold, predicted, labels=labels, average=average, zero_division=0.0
        )[:3]
        ours = [scores.report[average][name] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(theirs)


def test_token_report_with_and_without_outside() -> None:
    gold, predicted = [["O", "B-PER", "O", "O"]], [["O", "B-PER", "B-PER", "O"]]
    tokens = metrics.tagging(gold, predicted, tags.tag_set(["PER"])).report["tokens"]
    assert tokens["with_outside"]["micro"]["f1"] == 0.75  # the accuracy
    assert tokens["without_outside"]["micro"]["precision"] == 0.5
    assert tokens["with_outside"]["by_label"]["O"]["support"] == 3
    assert tokens["num_tokens"] == 4


def test_nothing_to_find_scores_zero() -> None:
    scores = metrics.tagging([["O"]], [["O"]], tags.tag_set(["PER"]))
    assert scores.metrics["f1"] == 0.0
    assert scores.metrics["token_accuracy"] == 1.0
    assert metrics.classes(["a"], ["a"], ["a", "b"]).metrics["mcc"] == 0.0
