"""Which entity was taken for which, by hand."""

import numpy as np

from finetune.ner.tags import Span, iob2
from finetune.scores import confusion


def tags(*spans: Span, words: int = 8) -> list[str]:
    return iob2(spans, words)


def test_spans_are_paired_by_the_words_they_share() -> None:
    gold = [Span(0, 3, "PER"), Span(4, 5, "LOC"), Span(6, 7, "LOC")]
    predicted = [Span(0, 1, "LOC"), Span(1, 3, "PER"), Span(4, 5, "PER"), Span(7, 8, "ORG")]
    # PER 0-3 shares two words with PER 1-3; what is left of it pairs with nothing.
    assert confusion.matched(gold, predicted) == [
        ("PER", "PER"),
        ("LOC", "PER"),
        ("LOC", "(missed)"),
        ("(spurious)", "LOC"),
        ("(spurious)", "ORG"),
    ]


def test_at_a_tie_the_own_type_comes_first() -> None:
    gold, predicted = [Span(0, 2, "PER")], [Span(0, 1, "LOC"), Span(1, 2, "PER")]
    assert confusion.matched(gold, predicted)[0] == ("PER", "PER")


def test_rows_sum_to_gold_and_columns_to_predicted() -> None:
    gold = [tags(Span(0, 2, "A"), Span(3, 4, "B")), tags(Span(0, 1, "B")), tags()]
    predicted = [tags(Span(0, 2, "B")), tags(Span(0, 1, "B"), Span(2, 3, "B")), tags()]
    found = confusion.of_spans(gold, predicted)
    assert (found.gold, found.predicted) == (["A", "B", "(spurious)"], ["A", "B", "(missed)"])
    assert found.counts.tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 0]]
    assert found.counts[:2].sum(axis=1).tolist() == [1, 2]
    assert found.counts[:, :2].sum(axis=0).tolist() == [0, 3]
    # Of gold labels the share of their row, of spurious spans of the predicted ones of the type.
    np.testing.assert_allclose(found.shares, [[0, 1, 0], [0, 0.5, 0.5], [0, 1 / 3, 0]])
    assert found.mistakes(2) == [("A", "B", 1), ("B", "(missed)", 1)]
    again = confusion.from_json(found.as_json())
    assert again.gold == found.gold
    assert (again.counts == found.counts).all()


def test_classes() -> None:
    found = confusion.of_classes(["neg", "pos"], [[3, 1], [0, 0]])
    assert found.shares.tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert found.mistakes(5) == [("neg", "pos", 1)]
    assert confusion.of_spans([tags()], [tags()]).counts.tolist() == [[0]]
