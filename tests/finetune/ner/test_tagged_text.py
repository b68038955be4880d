"""Every format gives the same sentences; what no tag can say is counted; errors name a line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune import lines
from finetune.tags import Span
from finetune.tasks import ner
from runtime.errors import DataError

Write = Callable[[str, str], Path]
CONLL = """-DOCSTART- -X- O O

Ada NNP B-NP I-PER
met VBD B-VP O
\t
New NNP B-NP I-LOC
York NNP I-NP I-LOC
"""


def params(path: Path, **more: object) -> ner.Params:
    return ner.Params.model_validate({"train": path, "valid": path, "metric": "f1", **more})


def test_conll_columns_documents_and_iob1(write: Write) -> None:
    path = write("a.conll", CONLL)
    dataset = ner.read(path, params(path))
    assert [row.words for row in dataset.rows] == [("Ada", "met"), ("New", "York")]
    assert [row.tags for row in dataset.rows] == [["B-PER", "O"], ["B-LOC", "I-LOC"]]
    assert [row.line for row in dataset.rows] == [3, 6]
    assert dataset.counts == {
        "documents": 1, "tag_scheme": "iob1", "sentences": 2, "words": 4, "entities": 2,
    }  # fmt: skip
    assert ner.label_set(dataset, params(path)) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def test_the_last_sentence_needs_no_empty_line_and_lines_may_end_in_crlf(write: Write) -> None:
    path = write("a.conll", "Ada B-PER\r\n\r\nBob B-PER")
    assert [row.words for row in ner.read(path, params(path)).rows] == [("Ada",), ("Bob",)]


def test_words_may_hold_any_white_space_but_the_separator(write: Write) -> None:
    path = write("a.conll", "a\u00a0b O\nc\u2028d B-X\n")
    assert ner.read(path, params(path)).rows[0].words == ("a\u00a0b", "c\u2028d")
    path = write("b.conll", "two words\tB-X\n")
    assert ner.read(path, params(path, separator="tab")).rows[0].words == ("two words",)


def test_column_numbers(write: Write) -> None:
    path = write("a.conll", "B-X ignored Ada\n")
    dataset = ner.read(path, params(path, word_column=2, tag_column=0))
    assert dataset.rows[0].words == ("Ada",)
    assert dataset.rows[0].entities == (Span(0, 1, "X"),)


def test_jsonl_with_tokens_equals_jsonl_with_spans(write: Write) -> None:
    tokens = write(
        "a.jsonl", json.dumps({"tokens": ["Ada", "met"], "tags": ["B-PER", "O"]}) + "\n\n"
    )
    text = {"text": "Ada met", "spans": [{"start": 0, "end": 3, "label": "PER"}]}
    spans = write("b.jsonl", json.dumps(text))
    one, two = (ner.read(path, params(path)) for path in (tokens, spans))
    assert one.rows[0].words == two.rows[0].words == ("Ada", "met")
    assert one.rows[0].tags == two.rows[0].tags == ["B-PER", "O"]
    assert two.counts["tag_scheme"] == "spans"


def test_inclusive_spans_of_a_script_without_spaces(write: Write) -> None:
    row = {"text": "他在北京", "spans": [{"start": 2, "end": 3, "label": "LOC"}]}
    path = write("a.jsonl", json.dumps(row))
    found = ner.read(path, params(path, span_end="inclusive")).rows[0]
    assert found.entities == (Span(2, 4, "LOC"),)


def test_spans_that_words_cannot_express_are_counted(write: Write) -> None:
    row = {
        "text": "New Yorkers met",
        "spans": [
            {"start": 0, "end": 8, "label": "LOC"},  # ends inside a word: widened
            {"start": 0, "end": 3, "label": "X"},  # inside the first: dropped
            {"start": 11, "end": 12, "label": "X"},  # a space: dropped
        ],
    }
    path = write("a.jsonl", json.dumps(row))
    dataset = ner.read(path, params(path))
    assert dataset.rows[0].entities == (Span(0, 2, "LOC"),)
    assert dataset.counts["spans_widened_to_words"] == 1
    assert dataset.counts["spans_dropped_overlapping_or_blank"] == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.conll", "Ada B-PER\nmet Q-X\n", "a.conll:2: 'Q-X' is not a tag"),
        ("a.conll", "Ada B-PER\nmet\n", "a.conll:2 has a word but no tag"),
        ("a.conll", "", "holds no sentence"),
        ("a.conll", "\n\n", "holds no sentence"),
        ("a.jsonl", "{\n", "a.jsonl:1 is not valid JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1 holds a list"),
        ("a.jsonl", '{"tekst": "x"}\n', "a.jsonl:1 has no field 'text'; it has 'tekst'"),
        ("a.jsonl", '{"tokens": ["a"], "tags": []}\n', "1 tokens and 0 tags"),
        ("a.jsonl", '{"tokens": ["a"], "tags": [3]}\n', "lists of strings"),
        ("a.jsonl", '{"text": "a", "spans": [{"start": 0}]}\n', "must be {start, end, label}"),
        (
            "a.jsonl",
            '{"text": "a", "spans": [{"start": 0, "end": 5, "label": "X"}]}\n',
            "does not lie in its text of 1 characters",
        ),
    ],
)
def test_one_clear_error(write: Write, name: str, text: str, message: str) -> None:
    path = write(name, text)
    with pytest.raises(DataError, match=message.replace("{", r"\{").replace("[", r"\[")):
        ner.read(path, params(path))


def test_a_missing_column_names_what_to_set(write: Write) -> None:
    path = write("a.conll", "Ada B-PER\n")
    with pytest.raises(DataError, match=r"has 2 columns; .*tag_column = 5 need more"):
        ner.read(path, params(path, tag_column=5))


def test_an_unknown_label_is_named_with_its_line(write: Write) -> None:
    train = write("train.conll", "Ada B-PER\n")
    valid = write("valid.conll", "so O\n\nin O\nOslo B-LOC\n")
    labels = ner.label_set(ner.read(train, params(train)), params(train))
    dataset = ner.read(valid, params(valid))
    with pytest.raises(DataError, match=r"valid.conll:4: label 'LOC' is not in .*\(PER\)"):
        ner.check_labels(dataset, labels)


def test_training_rows_without_entities_are_an_error(write: Write) -> None:
    path = write("a.conll", "so O\n")
    with pytest.raises(DataError, match="nothing to learn"):
        ner.label_set(ner.read(path, params(path)), params(path))


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_bytes(b"Ada O\nM\xfcnchen B-LOC\n")
    with pytest.raises(DataError, match=r"a\.conll:2 is not UTF-8"):
        ner.read(path, params(path))
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        list(lines.read_lines(tmp_path / "absent"))
