"""Gopher's quality rules, by texts that can be counted by hand."""

from typing import Any

import pytest

from data_prep.clean.quality import Params, clean
from data_prep.documents import Document, Reject
from data_prep.facts import Facts
from data_prep.words import words_of

OFF: dict[str, Any] = {
    "min_words": 0,
    "max_words": 10**9,
    "min_mean_word_length": 0.0,
    "max_mean_word_length": 1e9,
    "max_hashes_per_word": 1e9,
    "max_ellipses_per_word": 1e9,
    "max_bullet_lines": 1.0,
    "max_ellipsis_lines": 1.0,
    "min_words_with_letter": 0.0,
    "min_stop_words": 0,
}
CHINESE = "我们在这本手册里说明如何安装和使用这个系统，请先阅读第一章。" * 8


def reason(text: str, metadata: dict[str, str] | None = None, **settings: Any) -> str | None:
    document = Document("id", text, "s", "d", metadata or {})
    result = clean(document, Params.model_validate(OFF | settings))
    if isinstance(result, Reject):
        return result.reason
    assert result is document
    return None


@pytest.mark.parametrize(
    ("text", "field", "passes", "fails", "why"),
    [
        ("one two three", "min_words", 3, 4, "fewer than 4 words"),
        ("one two three", "max_words", 3, 2, "more than 2 words"),
        ("天地玄黄", "min_words", 2, 3, "fewer than 3 words"),  # two characters for a word
        ("天地玄黄", "max_words", 2, 1, "more than 1 words"),
        ("a bb ccc", "min_mean_word_length", 2.0, 2.01, "mean word length is not in 2.01-1e+09"),
        ("a bb ccc", "max_mean_word_length", 2.0, 1.99, "mean word length is not in 0-1.99"),
        ("a bbb 天 ccc ddd", "min_mean_word_length", 2.5, 2.51, "mean word length is not in"),
        ("# a ## b", "max_hashes_per_word", 0.75, 0.74, "more than 0.74 # per word"),
        ("a... b… c d", "max_ellipses_per_word", 0.5, 0.49, "more than 0.49 ellipses per word"),
        ("- a\n\n • b\nc\n* d", "max_bullet_lines", 0.75, 0.74, "more than 0.74 of lines begin"),
        ("a...\nb…\n\nc\nd", "max_ellipsis_lines", 0.5, 0.49, "more than 0.49 of lines end"),
        ("a 1 2b .", "min_words_with_letter", 0.5, 0.51, "fewer than 0.51 of words have"),
        ("ä 1 2ß —", "min_words_with_letter", 0.5, 0.51, "fewer than 0.51 of words have"),
        ("天地，玄黄。3", "min_words_with_letter", 0.8, 0.81, "fewer than 0.81 of words have"),
        ("The cat AND the dog", "min_stop_words", 2, 3, "fewer than 3 stop words"),
    ],
)
def test_boundaries(text: str, field: str, passes: float, fails: float, why: str) -> None:
    assert reason(text, **{field: passes}) is None
    found = reason(text, **{field: fails})
    assert found is not None
    assert found.startswith(f"quality: {why}")


def test_chinese_passes_the_published_rules() -> None:
    assert isinstance(clean(Document("id", CHINESE, "s", "d"), Params()), Document)


def test_stop_words_are_asked_of_english_only() -> None:
    text = "Dies ist ein Satz."
    assert reason(text, min_stop_words=2) == "quality: fewer than 2 stop words"
    assert reason(text, {"language": "en"}, min_stop_words=2) is not None
    assert reason(text, {"language": "de"}, min_stop_words=2) is None
    assert reason(text, min_stop_words=2, stop_words=("ist", "ein")) is None


def test_published_thresholds() -> None:
    shown = Params().model_dump()
    assert {name: shown[name] for name in OFF} == {
        "min_words": 50,
        "max_words": 100_000,
        "min_mean_word_length": 3,
        "max_mean_word_length": 10,
        "max_hashes_per_word": 0.1,
        "max_ellipses_per_word": 0.1,
        "max_bullet_lines": 0.9,
        "max_ellipsis_lines": 0.3,
        "min_words_with_letter": 0.8,
        "min_stop_words": 2,
    }


@pytest.mark.parametrize(
    ("text", "count"),
    [("a B. 1 -- c3 \x1c \x1ed", 4), ("é 1 “x” — 中,3 ไ่", 5), ("", 0), ("\u0301 𝐱 😀", 1)],
)
def test_words_with_a_letter(text: str, count: int) -> None:
    assert Facts(text, words_of(text)).num_with_letter == count
