"""Scores of tags are those of seqeval (strict, IOB2) and scikit-learn, and of a pencil."""

import warnings

import numpy as np
import pytest
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_scores
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from finetune.ner import tags
from finetune.scores import metrics

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


@pytest.mark.parametrize("seed", range(5))
def test_token_scores_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold, predicted = random_tags(rng), random_tags(rng)
    predicted = [(p * len(g))[: len(g)] for g, p in zip(gold, predicted, strict=True)]
    report = metrics.token_report(gold, predicted, LABELS)
    flat = [tag for row in gold for tag in row], [tag for row in predicted for tag in row]
    assert report["accuracy"] == accuracy_score(*flat)
    for name, labels in (("with_outside", LABELS), ("without_outside", LABELS[1:])):
        for average in ("micro", "macro", "weighted"):
            theirs = precision_recall_fscore_support(
                *flat, labels=labels, average=average, zero_division=0.0
            )[:3]
            ours = report[name][average]
            assert [ours[score] for score in ("precision", "recall", "f1")] == pytest.approx(theirs)


def test_an_inside_that_continues_nothing_is_an_entity_only_by_default() -> None:
    gold, predicted = [["B-PER", "O", "B-LOC"]], [["I-PER", "O", "B-LOC"]]
    scores = metrics.tagging(gold, predicted, tags.tag_set(["LOC", "PER"]))
    assert scores.metrics["precision"] == 1.0
    assert scores.metrics["recall"] == 0.5
    found = metrics.tagging_final(gold, predicted, tags.tag_set(["LOC", "PER"]))["seqeval"]
    assert (found["strict"]["scheme"], found["strict"]["micro"]["f1"]) == ("IOB2", 2 / 3)
    assert (found["default"]["scheme"], found["default"]["micro"]["f1"]) == (None, 1.0)


def test_table_of_tokens() -> None:
    gold, predicted = [["O", "B-PER", "I-PER", "O"]], [["O", "B-PER", "B-PER", "O"]]
    report = metrics.token_report(gold, predicted, tags.tag_set(["PER"]))
    assert metrics.token_table(report) == "\n".join(
        [
            "                        precision     recall         f1    support",
            "                 B-PER      0.500      1.000      0.667          1",
            "                 I-PER      0.000      0.000      0.000          1",
            "                     O      1.000      1.000      1.000          2",
            "",
            "             micro avg      0.750      0.750      0.750          4",
            "             macro avg      0.500      0.667      0.556          4",
            "          weighted avg      0.625      0.750      0.667          4",
            "",
            "   micro avg without O      0.500      0.500      0.500          2",
            "   macro avg without O      0.250      0.500      0.333          2",
            "weighted avg without O      0.250      0.500      0.333          2",
            "",
            "4 tokens, 0.7500 of them right",
        ]
    )


def test_rows_of_sentences_sum_to_the_scores() -> None:
    rng = np.random.default_rng(3)
    gold, noise = random_tags(rng), random_tags(rng)
    predicted = [
        g if rng.random() < 0.5 else tags.iob2(tags.spans((n * len(g))[: len(g)]), len(g))
        for g, n in zip(gold, noise, strict=True)
    ]
    rows = metrics.entity_row_counts([["B-PER", "O"]], [["B-PER", "B-LOC"]], ["LOC", "PER"])
    # Right: no LOC, one PER; predicted: one of each; gold: the PER; one of two tokens.
    assert rows.tolist() == [[0, 1, 1, 1, 0, 1, 1, 2]]
    totals = metrics.entity_row_counts(gold, predicted, ["LOC", "PER", "a-b"]).sum(axis=0)
    scores = metrics.tagging(gold, predicted, LABELS).metrics
    for metric in ("precision", "recall", "f1", "macro_f1", "token_accuracy"):
        assert metrics.of_entity_counts(totals, metric) == pytest.approx(scores[metric])


def test_the_macro_average_is_over_the_types_that_are_met() -> None:
    gold, predicted = [["B-PER", "O"]], [["B-PER", "B-LOC"]]
    scores = metrics.tagging(gold, predicted, LABELS)  # a-b is neither gold nor predicted
    assert scores.metrics["macro_f1"] == 0.5
    rows = metrics.entity_row_counts(gold, predicted, ["LOC", "PER", "a-b"])
    assert metrics.of_entity_counts(rows.sum(axis=0), "macro_f1") == 0.5
    assert metrics.of_entity_counts(np.zeros(11), "macro_f1") == 0.0


def test_the_table_of_the_source_article_can_be_printed() -> None:
    """Supports and layout of a report on CoNLL-2003 test: every tag, O, the averages."""
    counts = {
        "B-LOC": 1668, "I-LOC": 257, "B-MISC": 702, "I-MISC": 216, "B-ORG": 1661, "I-ORG": 835,
        "B-PER": 1617, "I-PER": 1156, "O": 38323,
    }  # fmt: skip
    flat = [tag for tag, count in counts.items() for _ in range(count)]
    table = metrics.tagging_final([flat], [flat], ["O", *list(counts)[:-1]])["token_table"]
    shown = [line.split() for line in table.split("\n") if line]
    assert [(line[0], line[-1]) for line in shown[1:10]] == [
        (tag, str(count)) for tag, count in counts.items()
    ]
    assert [" ".join(line[:-4]) for line in shown[10:16]] == [
        "micro avg", "macro avg", "weighted avg",
        "micro avg without O", "macro avg without O", "weighted avg without O",
    ]  # fmt: skip
    assert [line[-1] for line in shown[10:16]] == ["46435"] * 3 + ["8112"] * 3
    assert table.endswith("46,435 tokens, 1.0000 of them right")
