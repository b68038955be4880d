"""Rows written as JSON are read as they were; rows as people see them."""

import json
from pathlib import Path

import pytest

from finetune.augmentation import row_text
from finetune.ner.tagged_text import Sentence, from_text, from_words
from finetune.ner.tags import Span
from finetune.tasks import classification, ner
from finetune.texts.labelled_text import Row

SENTENCES = [
    from_words(["New", "York", ",", "today"], [Span(0, 2, "LOC")], 1),
    from_words(["北", "京", "很", "大"], [Span(0, 2, "LOC")], 1),
    from_text("  Ada  met Bob\n", [Span(0, 1, "PER"), Span(2, 3, "PER")], 1),
    from_text("nothing here", [], 1),
]


@pytest.mark.parametrize("end", ["auto", "exclusive", "inclusive"])
def test_sentences_are_read_as_they_were_written(tmp_path: Path, end: str) -> None:
    path = tmp_path / "rows.jsonl"
    params = ner.Params.model_validate({"train": path, "span_end": end, "tags_field": "ner_tags"})
    text = "".join(json.dumps(row_text.as_json(row, params)) + "\n" for row in SENTENCES)
    path.write_text(text, encoding="utf-8")
    found: list[Sentence] = ner.read(path, params).rows
    for row, given in zip(found, SENTENCES, strict=True):
        assert (row.words, row.text, row.offsets, row.entities) == (
            given.words,
            given.text,
            given.offsets,
            given.entities,
        )


def test_texts_go_under_the_names_of_the_table() -> None:
    params = classification.Params(
        train=Path("x"), text_field="a", text_pair_field="b", label_field="gold"
    )
    row = Row(("one", "two"), "yes", 1)
    assert row_text.as_json(row, params) == {"a": "one", "b": "two", "gold": "yes"}
    plain = classification.Params(train=Path("x"))
    assert row_text.as_json(Row(("one",), 0.5, 1), plain) == {"text": "one", "label": 0.5}
    several = Row(("one",), ("x", "y"), 1)
    assert row_text.as_json(several, plain) == {"text": "one", "label": ["x", "y"]}


def test_rows_in_words() -> None:
    assert row_text.shown(SENTENCES[0]) == "[New York](LOC) , today"
    assert row_text.shown(SENTENCES[2]) == "  [Ada](PER)  met [Bob](PER)\n"
    assert row_text.shown(Row(("one", "two"), "yes", 1)) == "yes: one || two"
    assert row_text.shown(Row(("one",), ("x", "y"), 1)) == "x, y: one"
