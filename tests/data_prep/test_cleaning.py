"""Cleaning as a whole: steps in order, and what holds for every step on any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.cleaning import STEPS, Clean, Step, clean, function_of, with_lines
from data_prep.documents import Document, Reject
from data_prep.facts import Facts, facts_of
from data_prep.words import words_of
from runtime import plugins

NAMES = plugins.names(STEPS)
PARAMS: dict[str, Step] = {name: plugins.find(STEPS, name).Params() for name in NAMES}
TEXTS = st.text(st.characters() | st.sampled_from(" \n.,\t中文。a1@|•…😀")) | st.lists(
    st.sampled_from(
        ["the", "and", "of", "word", "中文", "。", "1", "\n", "\n\n", "...", "Read more"]
    )
).map(" ".join)
ODD = [
    "",
    " ",
    "\n",
    "a",
    "中",
    "😀",
    "\u0301",
    "\ud800",
    "x" * 100_000,
    "中" * 100_000,
    "\n" * 1000,
]


def document(text: str) -> Document:
    return Document("id", text, "source", "domain", {"key": "value"})


def check(name: str, text: str) -> None:
    before = document(text)
    result = function_of(name)(before, PARAMS[name])
    assert before == document(text)
    assert result == function_of(name)(document(text), PARAMS[name])
    if isinstance(result, Reject):
        assert (result.id, result.kind) == ("id", "dropped")
        assert len(result.reason) < 80
        return
    assert (result.id, result.source, result.domain) == ("id", "source", "domain")
    assert before.metadata.items() <= result.metadata.items()
    if name != "pii":  # a placeholder may be longer than what it stands for
        assert len(result.text) <= max(len(text), 3 * len(text) * (name == "unicode"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:3]) + str(len(text)))
def test_odd_texts(name: str, text: str) -> None:
    check(name, text)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_any_text(name: str, text: str) -> None:
    check(name, text)


def test_steps_run_in_order() -> None:
    table = Clean.model_validate_json(
        '{"steps": [{"step": "unicode"}, {"step": "boilerplate"}, '
        '{"step": "quality", "min_words": 3, "min_stop_words": 0}]}'
    )
    result = clean(document("One two\u200b three.\r\nRead more"), table)
    assert isinstance(result, Document)
    assert result.text == "One two three."
    rejected = clean(document("One two.\r\nRead more"), table)
    assert isinstance(rejected, Reject)
    assert rejected.reason == "quality: fewer than 3 words"


def test_lines_that_go_leave_one_blank_line() -> None:
    before = document("a\n\nb\n\n\nc")
    assert with_lines(before, ["a", "", "b", "", "", "c"], "step") != before
    assert with_lines(document("a\n\nc"), ["a", "", "c"], "step").__class__ is Document
    assert isinstance(with_lines(before, ["", " "], "step"), Reject)


def test_facts_are_kept_with_the_document() -> None:
    kept = document("One two.\n\n three ")
    assert facts_of(kept) is facts_of(kept)
    assert kept == document(kept.text)  # they are no part of it
    assert facts_of(kept).lines == ["One two.", "three"]


@given(TEXTS)
def test_facts_equal_counting(text: str) -> None:
    words = words_of(text)
    facts = Facts(text, words)
    assert facts.num_characters == len("".join(words)) == facts.word_lengths.sum()
    assert facts.num_alone == sum(
        len(words_of(word + word)) == 2 for word in words if len(word) == 1
    )
    hashes = facts.word_hashes.tolist()
    assert len(set(hashes)) == len(set(words))
