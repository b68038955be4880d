"""Pairs that follow from the training rows, and none that they contradict."""

import pytest

from finetune.texts.labelled_text import Row
from runtime.errors import DataError
from tests.finetune.augment.conftest import copies_of

TRAIN = [
    Row(("how old are you", "what is your age"), "1", 1),
    Row(("what is your age", "tell me your age"), "1", 2),
    Row(("how old are you", "how are you"), "0", 3),
    Row(("where is rome", "how are you"), "0", 4),
    Row(("how old are trees", "where is rome"), "0", 5),
]


def made(row: Row, count: int = 60, **fields: object) -> set[tuple[tuple[str, ...], str]]:
    rows = [copies_of("pairs", TRAIN, row, seed=i, **fields)[0] for i in range(count)]
    return {(new.texts, new.label) for new in rows}


def test_what_is_like_the_same_text_is_alike() -> None:
    assert made(TRAIN[0], positive_share=1.0) == {
        (("how old are you", "tell me your age"), "1"),  # over "what is your age"
        (("what is your age", "how old are you"), "1"),  # no new one: the other way round
    }


def test_a_hard_negative_shares_the_most_words_and_is_not_paired_yet() -> None:
    found = made(TRAIN[0], positive_share=0.0, hard_share=1.0)
    # "how are you" is paired with the first text; of the rest trees share most words with it.
    assert (("how old are you", "how old are trees"), "0") in found
    assert all(label == "0" for _, label in found)
    assert {pair for pair, _ in found} & {row.texts for row in TRAIN} == set()


def test_easy_negatives_come_from_other_meanings() -> None:
    found = made(TRAIN[1], positive_share=0.0, hard_share=0.0)
    alike = {"how old are you", "what is your age", "tell me your age"}
    assert {label for _, label in found} == {"0"}
    assert all(not set(pair) <= alike for pair, _ in found)
    assert len(found) > 3


def test_a_meaning_that_rows_contradict_gives_no_positive_pair() -> None:
    against = [*TRAIN, Row(("how old are you", "tell me your age"), "0", 6)]
    for seed in range(20):
        (new,) = copies_of("pairs", against, TRAIN[0], seed=seed, positive_share=1.0)
        assert set(new.texts) != {"how old are you", "tell me your age"}


def test_order_that_matters_gives_negatives_only() -> None:
    assert {label for _, label in made(TRAIN[0], is_symmetric=False)} == {"0"}


def test_chinese_words_count_for_overlap() -> None:
    train = [
        Row(("花呗怎么还款", "怎么还花呗"), "1", 1),
        Row(("借呗怎么还款", "今天天气"), "0", 2),
    ]
    (new,) = copies_of("pairs", train, train[0], seed=1, positive_share=0.0, hard_share=1.0)
    assert "借呗怎么还款" in new.texts


def test_rows_it_cannot_use() -> None:
    with pytest.raises(
        DataError, match="needs rows of two texts; set the task's `text_pair_field`"
    ):
        copies_of("pairs", [Row(("one",), "1", 1)], TRAIN[0])
    with pytest.raises(DataError, match="positive = 'same' and negative = '0' must be labels of"):
        copies_of("pairs", TRAIN, TRAIN[0], positive="same")
    with pytest.raises(ValueError, match="positive and negative are both '1'"):
        copies_of("pairs", TRAIN, TRAIN[0], negative="1")
