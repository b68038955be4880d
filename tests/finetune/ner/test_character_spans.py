"""Spans of characters: both layouts, and the end that the spans themselves tell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.ner import character_spans
from finetune.ner.character_spans import Annotated, Written
from finetune.ner.tags import Span
from finetune.tasks import ner
from runtime.errors import DataError

Write = Callable[[str, str], Path]
PATH = Path("a.jsonl")


def texts(*rows: tuple[str, list[tuple[int, int]]]) -> list[Annotated]:
    return [
        Annotated(i, text, tuple(Written(start, end, "X") for start, end in spans))
        for i, (text, spans) in enumerate(rows, start=1)
    ]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("Ada met Bob", [(0, 3), (8, 11)])], "exclusive"),
        ([("Ada met Bob", [(0, 2), (8, 10)])], "inclusive"),
        ([("他在北京", [(2, 4)])], "exclusive"),  # 4 is no character
        ([("他在北京", [(2, 3), (0, 0)])], "inclusive"),  # 0 to 0 would be nothing
        ([("Ada met Bob", [])], "exclusive"),  # nothing to tell
        ([("Ada met Bob", [(0, 2)] * 19 + [(0, 3)])], "inclusive"),  # 95 %
        ([("Adas met", [(0, 2), (5, 8)])], "exclusive"),  # inside a word: says nothing
    ],
)
def test_the_end_that_spans_tell(rows: Any, found: str) -> None:
    assert character_spans.ends_of(texts(*rows), PATH) == found


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ([("Ada met", [(0, 2), (0, 3)])], "1 spans fit only the latter, 1 only the former"),
        ([("他在北京", [(2, 3)])], "0 spans fit only the latter, 0 only the former"),
        ([("Ada met", [(0, 2)] * 18 + [(0, 3)])], "1 spans fit only the latter, 18 only the"),
    ],
)
def test_spans_that_do_not_tell_are_an_error(rows: Any, counts: str) -> None:
    with pytest.raises(DataError, match=rf'a\.jsonl: cannot tell .*{counts}.*set span_end to "ex'):
        character_spans.ends_of(texts(*rows), PATH)


def test_a_span_that_names_its_text_tells_by_it() -> None:
    row = Annotated(3, "他在北京", (Written(2, 3, "X", "北京"),))
    assert character_spans.ends_of([row], PATH) == "inclusive"
    assert character_spans.read_as(row, "inclusive", PATH) == [Span(2, 4, "X")]
    with pytest.raises(DataError, match=r"a\.jsonl:3: span \[2, 3\] 'X' should be '北京'; .*'北'"):
        character_spans.read_as(row, "exclusive", PATH)


def test_the_layout_of_cluener(write: Write) -> None:
    row = {
        "text": "浙商银行企业信贷部叶老桂博士",
        "label": {"name": {"叶老桂": [[9, 11]]}, "company": {"浙商银行": [[0, 3]]}},
    }
    path = write("a.json", json.dumps(row))
    dataset = ner.read(path, ner.Params(train=path))
    assert dataset.rows[0].entities == (Span(0, 4, "company"), Span(9, 12, "name"))
    assert (dataset.counts["tag_scheme"], dataset.counts["span_end"]) == ("spans", "inclusive")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (3, r"a.jsonl:7: spans must be a list .*given 3"),
        ([[0, 3]], r"a.jsonl:7: a span must be \{start, end, label\}, given \[0, 3\]"),
        ([{"start": "0", "end": 3, "label": "X"}], r"needs whole numbers"),
        ([{"start": 0, "end": 3, "label": ""}], r"and a label"),
        ({"X": [[0, 3]]}, r"a.jsonl:7: label 'X' must be \{mention: \[\[start, end\]\]\}"),
        ({"X": {"Ada": [0, 3]}}, r"label 'X' must be"),
    ],
)
def test_one_clear_error(spans: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        character_spans.written(spans, PATH, 7)


def test_a_span_outside_its_text_is_named_before_anything_is_decided() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: span \[0, 9\] 'X' does not lie in its text"):
        character_spans.ends_of(texts(("Ada", [(0, 9)])), PATH)
