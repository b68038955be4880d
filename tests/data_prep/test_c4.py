"""C4's rules, by examples."""

from typing import Any

import pytest

from data_prep.clean.c4 import Params, clean
from data_prep.documents import Document, Reject

GOOD = "This line has five words."


def cleaned(text: str, **settings: Any) -> str:
    """The text that is left, or the reason."""
    params = Params.model_validate({"min_sentences": 0} | settings)
    result = clean(Document("id", text, "s", "d"), params)
    return result.reason if isinstance(result, Reject) else result.text


@pytest.mark.parametrize(
    ("line", "field", "off"),
    [
        ("No mark at its very end", "terminal_punctuation", False),
        ("It trails off at the end...", "terminal_punctuation", False),
        ("It trails off at the end…", "terminal_punctuation", False),
        ("Only four words here.", "min_words_per_line", 4),
        ("A word of eleven cccccccccc.", "max_word_length", 11),
        ("You need to enable JavaScript first.", "remove_javascript", False),
        ("We use cookies on this site.", "remove_policy", False),
        ("Please read our Terms of Use.", "remove_policy", False),
        ("三个字。", "min_words_per_line", 4),
    ],
)
def test_lines(line: str, field: str, off: Any) -> None:
    limits = {"max_word_length": 10}
    text = f"{GOOD}\n{line}\n{GOOD}"
    assert cleaned(text, **limits) == f"{GOOD}\n{GOOD}"
    assert cleaned(text, **limits | {field: off}) == text


@pytest.mark.parametrize(
    "line",
    [
        'He said to me: "Go!"',
        "你好，今天天气很好。",
        "¿Is that so, my friend?",
        "  The indent stays as is.",
    ],
)  # fmt: skip
def test_lines_that_stay(line: str) -> None:
    assert cleaned(f"{GOOD}\n{line}\n{GOOD}") == f"{GOOD}\n{line}\n{GOOD}"


def test_blank_lines_bound_paragraphs() -> None:
    assert cleaned(f"menu\n\n{GOOD}\n\nmenu\n\n{GOOD}\n\n\n{GOOD}") == f"{GOOD}\n\n{GOOD}\n\n{GOOD}"


def test_documents() -> None:
    assert cleaned(f"{GOOD}\nLorem ipsum dolor.") == "c4: lorem ipsum"
    assert cleaned(f"{GOOD}\nint main() {{") == "c4: curly bracket"
    assert cleaned(f"{GOOD}\n{{", drop_curly_bracket=False) == GOOD
    assert cleaned("menu\nlogin") == "c4: no line is left"


def test_citations() -> None:
    text = "It is known to be so.[1][citation needed]"
    assert cleaned(text) == "It is known to be so."
    assert cleaned(text, remove_citations=False) == "c4: no line is left"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One is 3.5 and e.g., so on. Two? Three!", 3),
        ('He said "No." and left them all.', 2),
        ("这是第一句。这是第二句！还有一句？", 3),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert cleaned(text, min_sentences=count) == text
    assert cleaned(text, min_sentences=count + 1) == f"c4: fewer than {count + 1} sentences"


def test_numbers_of_the_released_pipeline() -> None:
    params = Params()
    assert (params.min_words_per_line, params.min_sentences, params.max_word_length) == (5, 3, 1000)
