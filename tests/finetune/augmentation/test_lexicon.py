"""Terms found among the words of a row, and replaced."""

from pathlib import Path
from random import Random

import pytest

from finetune.augmentation import edits, lexicon
from finetune.augmentation.edits import Word
from finetune.ner import tagged_text
from finetune.ner.tags import Span


@pytest.fixture
def source(tmp_path: Path) -> lexicon.Lexicon:
    path = tmp_path / "lexicon.tsv"
    path.write_text("new\tfresh\nnew york\tbig apple\n北京\t京城\n", encoding="utf-8")
    return lexicon.opened(path, "")


def test_the_longest_term_that_begins_first_is_taken(source: lexicon.Lexicon) -> None:
    row = [Word(word) for word in ("a", "new", "york", "is", "new", "york", "new")]
    assert lexicon.terms(row, source, in_mentions=False) == [(1, 3), (4, 6), (6, 7)]
    chinese = edits.words_of_text("在北京new")
    assert lexicon.terms(chinese, source, in_mentions=False) == [(1, 3), (3, 4)]


def test_a_term_lies_in_one_mention_or_outside(source: lexicon.Lexicon) -> None:
    row = [Word("new", mention=0), Word("york", mention=1), Word("new")]
    assert lexicon.terms(row, source, in_mentions=False) == [(2, 3)]
    assert lexicon.terms(row, source, in_mentions=True) == [(0, 1), (2, 3)]


def test_replacing_keeps_case_gaps_and_mentions(source: lexicon.Lexicon) -> None:
    row = tagged_text.from_text("In  New York, new 北京", [Span(1, 3, "LOC")], 1)
    words = edits.words_of(row)
    places = lexicon.terms(words, source, in_mentions=True)
    changed = lexicon.replaced(words, places, source, Random(0))
    found = edits.sentence_of(row, changed)
    assert found.text == "In  Big apple, fresh 京城"
    assert [found.words[e.start : e.end] for e in found.entities] == [("Big", "apple")]


def test_some_are_at_least_one() -> None:
    places = [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert lexicon.some([], 1.0, Random(0)) == []
    assert len(lexicon.some(places, 0.0, Random(0))) == 1
    assert len(lexicon.some(places, 0.5, Random(0))) == 2
    assert lexicon.some(places, 1.0, Random(0)) == places


@pytest.mark.usefixtures("wordnet")
def test_wordnet_gives_content_words_only() -> None:
    source = lexicon.opened(None, lexicon.WORDNET)
    assert "doctor" in source.lookup("Physician")
    assert source.lookup("but") == ()
    assert source.lookup("PHYSICIAN") == ()  # in capitals: a name
    assert list(source.lookup("who")) == []  # not the World Health Organization
