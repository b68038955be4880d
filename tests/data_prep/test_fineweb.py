"""FineWeb's rules, by texts that can be counted by hand."""

from typing import Any

import pytest

from data_prep.clean.fineweb import Params, clean
from data_prep.documents import Document, Reject

OFF: dict[str, Any] = {
    "min_punctuated_lines": 0.0,
    "short_line_length": 0,
    "max_duplicate_characters": 1.0,
    "max_newlines_per_word": 1e9,
}


def reason(text: str, **settings: Any) -> str | None:
    document = Document("id", text, "s", "d")
    result = clean(document, Params.model_validate(OFF | settings))
    if isinstance(result, Reject):
        return result.reason
    assert result is document
    return None


@pytest.mark.parametrize(
    ("text", "settings", "passes", "fails", "why"),
    [
        ("a.\n\nb\nc\nd", {}, ("min_punctuated_lines", 0.24), ("min_punctuated_lines", 0.25),
         "at most 0.25 of lines end in punctuation"),
        ("天。\n地", {}, ("min_punctuated_lines", 0.49), ("min_punctuated_lines", 0.5),
         "at most 0.5 of lines end in punctuation"),
        ("abc\nabcd", {"max_short_lines": 0.5}, ("short_line_length", 2), ("short_line_length", 3),
         "at least 0.5 of lines are short"),
        ("abc\nabcd", {"short_line_length": 3}, ("max_short_lines", 0.51), ("max_short_lines", 0.5),
         "at least 0.5 of lines are short"),
        ("天地玄", {}, ("short_line_length", 5), ("short_line_length", 6),  # twice as wide
         "at least 0.67 of lines are short"),
        ("ab\nab\ncdef", {}, ("max_duplicate_characters", 0.26), ("max_duplicate_characters", 0.25),
         "at least 0.25 of text is in copied lines"),
        ("a b\nc d", {}, ("max_newlines_per_word", 0.25), ("max_newlines_per_word", 0.24),
         "more than 0.24 newlines per word"),
    ],
)  # fmt: skip
def test_boundaries(
    text: str,
    settings: dict[str, Any],
    passes: tuple[str, float],
    fails: tuple[str, float],
    why: str,
) -> None:
    assert reason(text, **settings | {passes[0]: passes[1]}) is None
    assert reason(text, **settings | {fails[0]: fails[1]}) == f"fineweb: {why}"


def test_no_line() -> None:
    assert reason("") == reason(" \n ") == "fineweb: no line"


def test_thresholds_of_the_released_pipeline() -> None:
    assert Params() == Params(
        min_punctuated_lines=0.12,
        max_short_lines=0.67,
        short_line_length=30,
        max_duplicate_characters=0.01,
        max_newlines_per_word=0.3,
    )
