"""Words of sentiment turned round, with the label."""

from pathlib import Path

import pytest

from finetune.texts.labelled_text import Row
from runtime.errors import DataError
from tests.finetune.augment.conftest import copies_of

pytestmark = pytest.mark.usefixtures("wordnet")
GOOD = ["a good film", "good and long", "it is great", "great fun", "a beautiful old story"]
BAD = ["a bad film", "bad and long", "it is awful", "an ugly old story", "no fun"]
TRAIN = [
    *(Row((text,), "positive", i) for i, text in enumerate(GOOD * 5)),
    *(Row((text,), "negative", i) for i, text in enumerate(BAD * 5)),
]


def inverted(text: str, label: str, **fields: object) -> tuple[str, str] | None:
    found = copies_of("sentiment_inversion", TRAIN, Row((text,), label, 1), **fields)
    return (found[0].texts[0], found[0].label) if found else None


def test_antonyms_from_wordnet() -> None:
    assert inverted("A good film.", "positive") == ("A bad film.", "negative")
    assert inverted("What a BAD, bad film", "negative") == ("What a GOOD, good film", "positive")
    # awful is like bad, whose opposite is good; the article goes with it
    assert inverted("An awful film", "negative") == ("A good film", "positive")
    assert inverted("a beautiful film", "positive") == ("an ugly film", "negative")


def test_negation_goes_where_there_is_one() -> None:
    assert inverted("This isn't very good", "negative") == ("This is very good", "positive")
    assert inverted("Not good at all", "negative") == ("Good at all", "positive")
    assert inverted("It was not a good film", "negative") == ("It was a good film", "positive")
    assert inverted("it can't be good", "negative") == ("it can be good", "positive")


def test_not_is_put_in_where_the_opposite_says_something_else() -> None:
    # WordNet's great is large, the opposite of which is small: not known as negative here.
    assert inverted("it is so great", "positive") == ("it is not so great", "negative")


def test_words_that_say_nothing_stay() -> None:
    assert inverted("a long old story", "positive") is None  # in as many rows of either
    assert inverted("a good film", "negative") is None  # says the other label
    assert inverted("", "positive") is None
    assert inverted("好", "positive") is None
    assert inverted("a good film", "neutral") is None


def test_a_lexicon_in_another_language(tmp_path: Path) -> None:
    path = tmp_path / "opposites.tsv"
    path.write_text("好\t差\n好吃\t难吃\n", encoding="utf-8")
    given = {"lexicon": path, "negations": ["不"]}
    assert inverted("味道好，很好吃", "positive", **given) == ("味道差，很难吃", "negative")
    assert inverted("不好", "negative", **given) == ("好", "positive")


def test_labels_it_cannot_use() -> None:
    with pytest.raises(
        DataError, match="no training row has the label 'pos'; they have 'negative'"
    ):
        inverted("good", "pos", labels={"pos": "negative", "negative": "pos"})
    with pytest.raises(ValueError, match="must name each label's opposite both ways"):
        inverted("good", "positive", labels={"positive": "negative"})
    with pytest.raises(DataError, match="these rows are pairs"):
        copies_of("sentiment_inversion", [*TRAIN, Row(("a", "b"), "positive", 1)], TRAIN[0])
