"""Folds by hand, and what holds for any: no row twice, no document cut, labels spread alike."""

import random
from collections import Counter
from pathlib import Path

import pytest

from finetune import folds
from finetune.ner import tagged_text
from finetune.ner.tags import Span
from finetune.task import Dataset
from finetune.tasks import classification, ner
from finetune.texts.labelled_text import Row
from runtime.errors import DataError


def labelled(*labels: str) -> list[Counter[object]]:
    return [Counter([label]) for label in labels]


def test_four_rows_of_two_labels_in_two_folds() -> None:
    found = folds.split([0, 1, 2, 3], labelled("a", "a", "b", "b"), 2, seed=0)
    assert sorted(map(len, found)) == [2, 2]
    for fold in found:  # one row of a and one of b each
        assert [row // 2 for row in fold] == [0, 1]


def test_a_document_stays_whole_and_large_ones_are_balanced_by_small_ones() -> None:
    # Documents of 4, 1, 1, 1 and 1 rows: the large one fills a fold.
    documents = [0, 0, 0, 0, 1, 2, 3, 4]
    found = folds.split(documents, labelled(*"aaaaaaaa"), 2, seed=3)
    assert sorted(found) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_label_met_twice_is_in_both_folds() -> None:
    strata = [*labelled("rare"), *[Counter[object]()] * 8, *labelled("rare")]
    for seed in range(20):
        found = folds.split(range(10), strata, 2, seed)
        assert [sum(row in (0, 9) for row in fold) for fold in found] == [1, 1]
        assert [len(fold) for fold in found] == [5, 5]


@pytest.mark.parametrize("seed", range(5))
def test_single_labels_are_spread_evenly(seed: int) -> None:
    rng = random.Random(seed)
    labels = rng.choices("abcdef", weights=[30, 20, 10, 5, 2, 1], k=97)
    found = folds.split(range(97), labelled(*labels), 5, seed)
    assert sorted(row for fold in found for row in fold) == list(range(97))
    assert max(map(len, found)) - min(map(len, found)) <= 2
    for label in "abcdef":
        counts = [sum(labels[row] == label for row in fold) for fold in found]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_documents_with_many_labels(seed: int) -> None:
    rng = random.Random(seed)
    documents = sorted(rng.randrange(40) for _ in range(300))
    strata = [Counter[object](rng.choices("xyz", [5, 2, 1], k=rng.randrange(4))) for _ in documents]
    found = folds.split(documents, strata, 4, seed)
    assert sorted(row for fold in found for row in fold) == list(range(300))
    homes = [{documents[row] for row in fold} for fold in found]
    assert sum(map(len, homes)) == len(set(documents))
    totals: Counter[object] = sum(strata, Counter())
    for label in "xyz":
        counts = [sum(strata[row][label] for row in fold) for fold in found]
        assert max(counts) < 1.5 * totals[label] / 4
    assert all(fold == sorted(fold) for fold in found)


def test_folds_depend_on_rows_number_and_seed_only() -> None:
    strata = labelled(*"abcabcabcabc")
    first = folds.split(range(12), strata, 3, seed=1)
    assert folds.split(range(12), strata, 3, seed=1) == first
    assert any(folds.split(range(12), strata, 3, seed=seed) != first for seed in range(2, 6))


def test_no_fold_is_empty_even_with_as_many_documents_as_folds() -> None:
    strata = labelled(*"aaaaaaaab")
    found = folds.split([0] * 7 + [1, 2], strata, 3, seed=0)
    assert sorted(map(len, found)) == [1, 1, 7]


def test_rows_of_a_task() -> None:
    rows = [Row((str(i),), "pos" if i % 3 else "neg", i + 1) for i in range(9)]
    found = folds.of(classification, Dataset(Path("train.jsonl"), rows), 3, seed=0)
    assert [sum(rows[i].label == "neg" for i in fold) for fold in found] == [1, 1, 1]


def test_strata_are_entity_types_or_labels() -> None:
    sentence = tagged_text.from_words(
        ["ada", "met", "bob", "in", "oslo"],
        [Span(0, 1, "PER"), Span(2, 3, "PER"), Span(4, 5, "LOC")],
        1,
    )
    assert folds.strata_of(sentence, ner.HEAD) == {"PER": 2, "LOC": 1}
    assert folds.strata_of(Row(("a",), "pos", 1), "sequence") == {"pos": 1}
    several, value = Row(("a",), ("x", "y"), 1), Row(("a",), 0.5, 1)
    assert folds.strata_of(several, "sequence") == {"x": 1, "y": 1}
    assert folds.strata_of(value, "sequence") == {}


def test_too_few_documents() -> None:
    rows = [Row(("a",), "x", 1), Row(("b",), "y", 2)]
    with pytest.raises(DataError, match=r"train\.jsonl: 2 documents are too few for 3 folds; use"):
        folds.of(classification, Dataset(Path("train.jsonl"), rows), 3, seed=0)
