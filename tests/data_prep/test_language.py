"""Language labels, by sentences anyone can check."""

from typing import Any

import pytest

from data_prep.clean.language import Params, clean, pieces
from data_prep.documents import Document, Reject

ENGLISH = "The committee shall meet once a year and report to the public what it has found."
GERMAN = "Der Ausschuss tritt einmal im Jahr zusammen und berichtet, was er gefunden hat."
CHINESE = "委员会每年召开一次会议，并向公众报告其调查结果。"


def labelled(text: str, **settings: Any) -> Document | Reject:
    return clean(Document("id", text, "s", "d", {"key": "1"}), Params.model_validate(settings))


@pytest.mark.parametrize(("text", "code"), [(ENGLISH, "en"), (GERMAN, "de"), (CHINESE, "zh")])
def test_labels(text: str, code: str) -> None:
    result = labelled(text)
    assert isinstance(result, Document)
    assert result.metadata == {"key": "1", "language": code}
    assert result.text == text


def test_keep() -> None:
    assert isinstance(labelled(CHINESE, keep=("en", "zh")), Document)
    result = labelled(GERMAN, keep=("en", "zh"))
    assert isinstance(result, Reject)
    assert result.reason == "language: de"


@pytest.mark.parametrize("text", ["", "7", "...", "\ud800"])
def test_unsure(text: str) -> None:
    result = labelled(text)
    assert isinstance(result, Document)
    assert result.metadata["language"] == "und"
    assert isinstance(labelled(text, keep=("en",)), Reject)
    assert isinstance(labelled(text, keep=("en", "und")), Document)


def test_candidates() -> None:
    result = labelled(GERMAN, candidates=("en", "zh"), min_confidence=0.0)
    assert isinstance(result, Document)
    assert result.metadata["language"] in ("en", "zh")


def test_unknown_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="english: not a language the model knows"):
        Params(keep=("english",))


def test_looks_at_the_whole_of_a_long_text() -> None:
    assert pieces("abcdefghij", 10) == "abcdefghij"
    assert pieces("aabbccddeeff", 4) == "a\nc\nd\nf"
    result = labelled(ENGLISH + CHINESE * 50, max_characters=200)
    assert isinstance(result, Document)
    assert result.metadata["language"] == "zh"
