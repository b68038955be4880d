"""Errors are counted by kind as a reader would sort them, and add up to the strict counts."""

import itertools

import numpy as np
import pytest

from finetune.ner import errors, tagged_text, tags
from finetune.ner.tags import Span
from finetune.scores import metrics

WORDS = ["Ada", "met", "Bob", "Lee", "in", "New", "York"]


def kinds(gold: list[Span], predicted: list[Span]) -> list[str]:
    return [error.kind for error in errors.errors(gold, predicted)]


def test_kinds_by_hand() -> None:
    gold = [Span(0, 1, "PER"), Span(2, 4, "PER"), Span(5, 7, "LOC")]
    assert kinds(gold, gold) == []
    assert kinds(gold, [*gold[:2], Span(5, 6, "LOC")]) == ["boundary"]
    assert kinds(gold, [*gold[:2], Span(5, 7, "ORG")]) == ["type"]
    assert kinds(gold, [*gold[:2], Span(6, 7, "ORG")]) == ["boundary_and_type"]
    assert kinds(gold, [*gold[1:], Span(1, 2, "PER")]) == ["missed", "spurious"]
    # Two predicted for one gold entity: one is the boundary error, the other spurious.
    assert kinds([Span(2, 4, "PER")], [Span(2, 3, "PER"), Span(3, 4, "PER")]) == [
        "boundary",
        "spurious",
    ]
    # The one with the same words belongs to it, whatever its type.
    assert kinds([Span(0, 2, "X")], [Span(0, 2, "Y")]) == ["type"]


@pytest.mark.parametrize("seed", range(20))
def test_errors_add_up_to_what_is_strictly_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def entities() -> list[Span]:
        cuts = sorted(rng.choice(12, size=6, replace=False).tolist())
        pairs = list(itertools.pairwise(cuts))
        return [Span(a, b, "XY"[rng.integers(2)]) for a, b in pairs if rng.random() < 0.6]

    gold, predicted = entities(), entities()
    found = kinds(gold, predicted)
    rows = metrics.entity_row_counts([tags.iob2(gold, 12)], [tags.iob2(predicted, 12)], ["X", "Y"])
    right, guessed, wanted = (int(part.sum()) for part in np.split(rows[0, :6], 3))
    both = [kind for kind in found if kind not in ("missed", "spurious")]
    assert len(both) + found.count("missed") == wanted - right
    assert len(both) + found.count("spurious") == guessed - right


def test_report_shows_the_words() -> None:
    row = tagged_text.from_words(WORDS, [Span(2, 4, "PER"), Span(5, 7, "LOC")], 9)
    found = errors.report([row], [[Span(2, 3, "PER")]])
    assert found["counts"] == {
        "boundary": 1, "type": 0, "boundary_and_type": 0, "missed": 1, "spurious": 0,
    }  # fmt: skip
    assert found["by_type"]["LOC"]["missed"] == 1
    (shown,) = found["examples"]["boundary"]
    assert shown == {
        "line": 9,
        "text": "Ada met Bob Lee in New York",
        "gold": {"text": "Bob Lee", "label": "PER"},
        "predicted": {"text": "Bob", "label": "PER"},
    }


def test_seen_and_unseen_mentions() -> None:
    train = tagged_text.from_words(["Oslo", "Bergen"], [Span(0, 1, "LOC"), Span(1, 2, "ORG")], 1)
    row = tagged_text.from_words(
        ["OSLO", "Bergen", "Rome", "Rome"], [Span(i, i + 1, "LOC") for i in range(4)], 1
    )
    found = errors.by_novelty([train], [row], [[Span(0, 1, "LOC"), Span(3, 4, "LOC")]])
    assert (found["seen"]["support"], found["seen"]["recall"]) == (1, 1.0)
    assert (found["other_type"]["support"], found["other_type"]["recall"]) == (1, 0.0)
    assert (found["unseen"]["support"], found["unseen"]["recall"]) == (2, 0.5)
    assert (found["unseen"]["forms"], found["unseen"]["forms_found"]) == (1, 1)
