"""What the operations without a model make, by examples small enough to check by eye."""

from collections import Counter
from pathlib import Path

import pytest

from finetune.ner import tagged_text
from finetune.ner.tags import Span
from finetune.texts.labelled_text import Row
from runtime.errors import DataError
from tests.finetune.augment.conftest import copies_of

ADA = tagged_text.from_words(
    ["ada", "met", "bob", "in", "new", "york"],
    [Span(0, 1, "PER"), Span(2, 3, "PER"), Span(4, 6, "LOC")],
    1,
)
ROME = tagged_text.from_words(
    ["carla", "visited", "rome"], [Span(0, 1, "PER"), Span(2, 3, "LOC")], 2
)
FILM = Row(("A  lovely film, was it?",), "positive", 1)


def test_aeda_puts_marks_between_words_and_into_no_mention() -> None:
    (new,) = copies_of("aeda", [], FILM, seed=1)
    assert new.texts == ("A ?  lovely film, was it?",)
    for seed in range(50):
        (new,) = copies_of("aeda", [], ADA, seed=seed)
        words = [word for word in new.words if word not in (".", ";", "?", ":", "!", ",")]
        assert words == list(ADA.words)
        assert 1 <= len(new.words) - len(words) <= 2  # a third of six
        assert [new.words[e.start : e.end] for e in new.entities] == [
            ("ada",), ("bob",), ("new", "york"),
        ]  # fmt: skip


def test_flip_reverses_words_and_keeps_mentions_in_order() -> None:
    (new,) = copies_of("flip", [], ADA)
    assert new.text == "new york in bob met ada"
    assert new.tags == ["B-LOC", "I-LOC", "O", "B-PER", "O", "B-PER"]
    (new,) = copies_of("flip", [], Row(("a  b c",), "x", 1))
    assert new.texts == ("c  b a",)


def test_mention_replacement_takes_mentions_of_the_type() -> None:
    found = {copies_of("mention_replacement", [ADA, ROME], ROME, seed=i)[0].text for i in range(40)}
    assert found == {"ada visited rome", "bob visited rome", "carla visited new york"}
    (new,) = copies_of("mention_replacement", [ADA, ROME], ROME, rate=1.0)
    assert new.tags == ["B-PER", "O", "B-LOC", "I-LOC"]
    plain = tagged_text.from_words(["no", "name"], [], 3)
    assert copies_of("mention_replacement", [ADA, ROME], plain) == []
    with pytest.raises(DataError, match="needs two different entities of one type"):
        copies_of("mention_replacement", [ROME], ROME)


def test_label_wise_replacement_keeps_tags() -> None:
    (new,) = copies_of("label_wise_replacement", [ROME], ADA, rate=0.0)
    assert new == ADA
    seen = Counter()
    for seed in range(40):
        (new,) = copies_of("label_wise_replacement", [ADA, ROME], ROME, seed=seed, rate=1.0)
        assert new.tags == ROME.tags
        seen.update(zip(new.words, new.tags, strict=True))
    assert {word for word, tag in seen if tag == "B-LOC"} == {"rome", "new"}
    assert {word for word, tag in seen if tag == "O"} == {"met", "in", "visited"}


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.tsv"
    path.write_text(
        "film\tmovie\nnew york\tbig apple\n北京\t京城\nlovely\tfine\n", encoding="utf-8"
    )
    return path


def test_synonym_keeps_case_and_mentions(lexicon: Path) -> None:
    given = {"lexicon": lexicon, "rate": 1.0}
    film = Row(("A Film, a FILM; films in 北京好",), "x", 1)
    assert copies_of("synonym", [], film, **given)[0].texts == (
        "A Movie, a MOVIE; films in 京城好",
    )
    assert copies_of("synonym", [], ADA, **given) == [ADA]
    (new,) = copies_of("synonym", [], ADA, in_mentions=True, **given)
    assert new.words[-2:] == ("big", "apple")
    assert new.tags[-2:] == ["B-LOC", "I-LOC"]
    (new,) = copies_of("synonym", [], Row(("lovely film",), "x", 1), lexicon=lexicon, rate=0.5)
    assert new.texts[0] in ("fine film", "lovely movie")


def test_synonym_changes_one_text_of_a_pair(lexicon: Path) -> None:
    pair = Row(("a film", "one film"), "1", 1)
    found = {copies_of("synonym", [], pair, seed=i, lexicon=lexicon)[0].texts for i in range(20)}
    assert found == {("a movie", "one film"), ("a film", "one movie")}


EDA_OFF = {f"{name}_rate": 0.0 for name in ("synonym", "insertion", "swap", "deletion")}


def test_eda_makes_one_of_four_changes(lexicon: Path) -> None:
    row = Row(("this lovely film was long",), "x", 1)
    given = {"lexicon": lexicon, **EDA_OFF}

    def made(**rates: float) -> set[str]:
        rows = [copies_of("eda", [], row, seed=i, **(given | rates))[0] for i in range(40)]
        return {found.texts[0] for found in rows}

    assert made(synonym_rate=0.2) == {"this fine film was long", "this lovely movie was long"}
    assert "film this lovely film was long" not in made(insertion_rate=0.2)
    assert all(
        sorted(text.split()) in (sorted([*row.texts[0].split(), w]) for w in ("fine", "movie"))
        for text in made(insertion_rate=0.2)
    )
    assert "was lovely film this long" in made(swap_rate=0.2)
    shorter = made(deletion_rate=0.3)
    assert "this film was long" in shorter
    assert all(text for text in shorter)
    with pytest.raises(ValueError, match="all rates are 0"):
        copies_of("eda", [], row, **EDA_OFF)


def test_eda_deletes_no_mention_and_never_everything(lexicon: Path) -> None:
    given = {"lexicon": lexicon, **EDA_OFF, "deletion_rate": 1.0}
    (new,) = copies_of("eda", [], ADA, **given)
    assert new.text == "ada bob new york"
    assert new.tags == ["B-PER", "B-PER", "B-LOC", "I-LOC"]
    (new,) = copies_of("eda", [], Row(("one two three",), "x", 1), **given)
    assert len(new.texts[0].split()) == 1
