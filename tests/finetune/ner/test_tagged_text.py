"""Every format gives the same sentences; what no tag can say is counted; errors name a line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune import lines
from finetune.ner.tags import Span
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
    assert two.counts["span_end"] == "exclusive"


def test_inclusive_spans_of_a_script_without_spaces(write: Write) -> None:
    row = {"text": "他在北京", "spans": [{"start": 2, "end": 3, "label": "LOC"}]}
    path = write("a.jsonl", json.dumps(row))
    found = ner.read(path, params(path, span_end="inclusive")).rows[0]
    assert found.entities == (Span(2, 4, "LOC"),)
    # Every character is a word, so this span may end at either.
    with pytest.raises(
        DataError, match=r"0 spans fit only the latter, 0 only the former; set span"
    ):
        ner.read(path, params(path))


def test_documents_are_marked_by_lines_or_by_a_field_or_the_file_is_one(write: Write) -> None:
    marked = write("a.conll", f"{CONLL}\n-DOCSTART- O\n\nhe PRP B-NP O\n")
    rows = ner.read(marked, params(marked)).rows
    assert [(row.document, row.place) for row in rows] == [(1, 0), (1, 1), (2, 2)]
    assert ner.groups(ner.read(marked, params(marked))) == [1, 1, 2]
    given = [{"tokens": ["a"], "tags": ["O"], "pmid": key} for key in (7, "x", 7, None)]
    path = write("a.jsonl", "\n".join(map(json.dumps, given)))
    dataset = ner.read(path, params(path, document_field="pmid"))
    assert [(row.document, row.place) for row in dataset.rows] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (None, 0),
    ]
    assert dataset.counts["documents"] == 2
    assert ner.groups(dataset) == [0, 1, 0, 5]
    plain = write("b.conll", "a O\n\nb O\n")
    assert [row.document for row in ner.read(plain, params(plain)).rows] == [None, None]
    whole = ner.read(plain, params(plain, documents="file"))
    assert [(row.document, row.place) for row in whole.rows] == [(0, 0), (0, 1)]


def test_context_needs_documents(write: Write) -> None:
    path = write("a.conll", "a O\n\nb O\n")
    with pytest.raises(DataError, match=r'a.conll has no documents .*set documents = "file"'):
        ner.read(path, params(path, context="document"))
    found = ner.read(path, params(path, context="document", documents="file"))
    assert found.counts["sentences_without_document"] == 0


def test_a_document_is_named_by_a_string_or_a_number(write: Write) -> None:
    path = write("a.jsonl", '{"tokens": ["a"], "tags": ["O"], "document": [1]}')
    with pytest.raises(DataError, match=r"a.jsonl:1: the document of a row must be .*'document'"):
        ner.read(path, params(path))


def test_tags_that_break_their_scheme_are_counted(write: Write) -> None:
    path = write("a.conll", "a S-X\nb E-X\n")
    assert ner.read(path, params(path)).counts["tags_breaking_scheme"] == 1
    path = write("b.conll", "a B-X\nb O\nc I-X\n")
    counts = ner.read(path, params(path)).counts
    assert (counts["tag_scheme"], counts["entities_begun_by_i"]) == ("mixed_iob", 1)


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
        ("a.conll", "Ada x B-PER\nmet O\n", "a.conll:2 has 2 columns, the lines before it 3"),
        ("a.conll", "a S-X\nb L-X\n", "a.conll: its tags mix schemes (1 of L-, 1 of S-)"),
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
    with pytest.raises(DataError, match=re.escape(message)):
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
