"""Rows as lines and lines as rows; broken lines are none."""

import pytest

from finetune.augmentation import edits, markup
from finetune.ner import tagged_text
from finetune.ner.tags import Span

TYPES = {"PER", "B.C-x y"}


def test_a_sentence_there_and_back() -> None:
    row = tagged_text.from_words(
        ["a<b", "Ada", "Lovelace", "&", "北", "京"], [Span(1, 3, "PER"), Span(4, 6, "B.C-x y")], 1
    )
    line = markup.of_sentence(row)
    assert line == "a&lt;b <PER>Ada Lovelace</PER> &amp; <B.C-x y>北京</B.C-x y>"
    parts = markup.sentence_parts(line, TYPES)
    assert parts == [("a<b ", None), ("Ada Lovelace", "PER"), (" & ", None), ("北京", "B.C-x y")]
    assert edits.rewritten(row, parts) == row


@pytest.mark.parametrize(
    "line",
    [
        "<PER>Ada", "Ada</PER>", "<PER>Ada</LOC>", "<LOC>Rome</LOC>", "<PER>A <PER>B</PER></PER>",
        "<PER></PER> left", "<PER> </PER>", "a < b", "Ada</PER", "<PER>Ada</PER> ></>", "<>x</>",
    ],
)  # fmt: skip
def test_broken_tags(line: str) -> None:
    assert markup.sentence_parts(line, TYPES) is None


def test_a_line_without_tags() -> None:
    assert markup.sentence_parts("no &amp; name", TYPES) == [("no & name", None)]
    assert markup.sentence_parts("", TYPES) == []


def test_texts() -> None:
    line = markup.of_texts(["a | b\nc", "d <e>"])
    assert line == "a &#124; b c ||| d &lt;e&gt;"
    assert markup.texts_of(line, 2) == ("a | b c", "d <e>")
    assert markup.texts_of(line, 1) is None
    assert markup.texts_of("one", 2) is None
    assert markup.texts_of("one ||| ", 2) is None
    assert markup.texts_of(" one ", 1) == ("one",)
