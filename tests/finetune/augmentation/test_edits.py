"""Rows as words and words as rows again."""

from random import Random

import pytest

from finetune.augmentation import edits
from finetune.augmentation.edits import Word
from finetune.ner import tagged_text
from finetune.ner.tags import Span
from finetune.texts.labelled_text import Row

BY_WORDS = tagged_text.from_words(["Ada", "'s", "New-York", "北", "京"], [Span(2, 3, "LOC")], 4)
BY_TEXT = tagged_text.from_text(" Ada's  New York.\n", [Span(3, 5, "LOC")], 4)
TEXTS = [
    "",
    "  ",
    "one",
    " It's a well-known  film, \tisn't it?\n",
    "在北京的film。",
    "e\u0301 😀 x",
]


def test_what_is_not_changed_is_the_same_row() -> None:
    for row in (BY_WORDS, BY_TEXT, *(Row((text,), "x", 1) for text in TEXTS)):
        assert edits.edited(row, Random(0), lambda words: list(words)) is row
    for row in (BY_WORDS, BY_TEXT):
        assert edits.sentence_of(row, edits.words_of(row)) == row
    for text in TEXTS:
        words = edits.words_of_text(text)
        lead, tail = (edits.lead_of(text), edits.tail_of(text)) if words else (text, "")
        assert edits.text_of(words, lead, tail)[0] == text


def test_words_of_a_text_keep_apostrophes_and_hyphens() -> None:
    found = edits.words_of_text(" It's a well-known  film, isn’t it?")
    assert [word.text for word in found] == [
        "It's", "a", "well-known", "film", ",", "isn’t", "it", "?",
    ]  # fmt: skip
    assert [word.gap for word in found] == [" ", " ", " ", "  ", "", " ", " ", ""]


def test_a_sentence_keeps_the_manner_it_came_in() -> None:
    def shout(words: list[Word]) -> list[Word]:
        return [Word(word.text.upper(), word.gap, word.mention) for word in words] + [Word("!", "")]

    found = edits.edited(BY_WORDS, Random(0), shout)
    assert found.words == ("ADA", "'S", "NEW-YORK", "北", "京", "!")
    assert found.text == "ADA 'S NEW-YORK 北京 !"
    assert found.tags == ["O", "O", "B-LOC", "O", "O", "O"]
    found = edits.edited(BY_TEXT, Random(0), shout)
    assert found.text == " ADA'S  NEW YORK.!\n"
    assert [found.words[e.start : e.end] for e in found.entities] == [("NEW", "YORK")]


def test_of_a_pair_one_text_is_changed() -> None:
    row = Row(("one", "two"), "x", 1)
    found = {
        edits.edited(row, Random(seed), lambda words: [*words, Word("!")]).texts
        for seed in range(20)
    }
    assert found == {("one !", "two"), ("one", "two !")}


def test_words_that_would_run_into_one_get_a_space() -> None:
    assert edits.text_of(
        [Word("a"), Word("b", ""), Word("."), Word("北", ""), Word("c", "")], "", ""
    )[0] == ("a b .北c")


def test_putting_words_in() -> None:
    words = [Word("Ada", ""), Word("left"), Word("北"), Word("京", "")]
    comma = [Word(",")]
    texts = [edits.text_of(edits.inserted(words, i, comma), "", "")[0] for i in range(5)]
    assert texts == [
        ", Ada left 北京",
        "Ada , left 北京",
        "Ada left , 北京",
        "Ada left 北 ,京",
        "Ada left 北京 ,",
    ]
    assert edits.borders([Word("a", mention=0), Word("b", mention=0), Word("c", mention=1)]) == [
        0, 2, 3,
    ]  # fmt: skip


def test_free_words_have_letters_and_no_mention() -> None:
    words = [Word("Ada", mention=0), Word("is"), Word("36"), Word("!"), Word("北")]
    assert edits.free(words) == [1, 4]
    assert edits.lettered(words) == [0, 1, 4]


def test_a_split_mention_is_our_own_error() -> None:
    with pytest.raises(AssertionError, match="a mention was split"):
        edits.sentence_of(BY_WORDS, [Word("a", mention=0), Word("b"), Word("c", mention=0)])


def test_another_text_in_the_manner_of_a_row() -> None:
    parts = [
        ("Ann saw", None),
        (" New York ", "LOC"),
        ("-", None),
        ("北京", "LOC"),
        (", then.", None),
    ]
    found = edits.rewritten(BY_WORDS, parts)
    assert found.words == ("Ann", "saw", "New", "York", "-", "北", "京", ",", "then.")
    assert found.tags == ["O", "O", "B-LOC", "I-LOC", "O", "B-LOC", "I-LOC", "O", "O"]
    assert found.line == 4
    found = edits.rewritten(BY_TEXT, parts)
    assert found.text == " Ann saw New York -北京, then.\n"
    assert [found.words[e.start : e.end] for e in found.entities] == [("New", "York"), ("北", "京")]
    assert edits.rewritten(BY_WORDS, []).words == ()


def test_labels_by_name() -> None:
    labels = ["one", ("a", "b"), 0.5, None]
    found = [edits.labels_of(Row(("x",), label, 1)) for label in labels]
    assert found == [["one"], ["a", "b"], [], []]
