"""Rows of every format, errors that name a line, and public files where they are at hand."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pydantic import ValidationError

from finetune.tasks import classification, multilabel
from runtime.errors import DataError
from tests.finetune.test_real_data import file_of

Write = Callable[[str, str], Path]


def params(**more: Any) -> classification.Params:
    return classification.Params.model_validate({"train": Path("x"), **more})


def rows(path: Path, **more: Any) -> list[tuple[tuple[str, ...], str]]:
    found = classification.read(path, params(**more))
    return [(row.texts, row.label) for row in found.rows]


def test_every_format_gives_the_same_rows(write: Write) -> None:
    wanted = [(('say "hi", ada',), "1"), (("two\nlines",), "0")]
    csv = write("a.csv", 'label,text\n1,"say ""hi"", ada"\n0,"two\nlines"\n')
    jsonl = write(
        "a.jsonl",
        '{"text": "say \\"hi\\", ada", "label": 1}\n{"text": "two\\nlines", "label": "0"}\n',
    )
    assert rows(csv) == rows(jsonl) == wanted
    tsv = write("a.tsv", 'text\tlabel\nsay "hi", ada\t1\n')
    first = write("a.txt", '1 say "hi", ada\n\n')
    assert rows(tsv) == rows(first, format="label_first") == wanted[:1]


def test_columns_without_header(write: Write) -> None:
    path = write("a.txt", "eins\tzwei\t0\ndrei\tvier\t1\n")
    found = rows(path, format="tsv", text_field=0, text_pair_field=1, label_field=2)
    assert found == [(("eins", "zwei"), "0"), (("drei", "vier"), "1")]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files_are_read_by_their_inner_name(tmp_path: Path, ending: str) -> None:
    text = b"text,label\nada,a\nbob,b\n"
    packed = gzip.compress(text) if ending == ".gz" else zstandard.compress(text)
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(packed)
    assert rows(path) == [(("ada",), "a"), (("bob",), "b")]
    path.write_bytes(packed[:-6])
    with pytest.raises(DataError, match=rf"cannot read .*a\.csv\{ending}: truncated"):
        rows(path)


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\ncafé,1\n".encode("cp1252"))
    assert rows(path, encoding="cp1252") == [(("café",), "1")]
    with pytest.raises(DataError, match=r"a\.csv:2 is not UTF-8 .*; convert the file to UTF-8"):
        rows(path)
    for name in ("utf-16", "no-such"):
        with pytest.raises(ValidationError, match="convert the files to UTF-8"):
            params(encoding=name)


def test_empty_texts_are_rows_and_counted(write: Write) -> None:
    path = write("a.csv", "text,label\n ,a\nx,b\n")
    assert classification.read(path, params()).counts == {"rows": 2, "empty_texts": 1}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"text_field": 0}, "all names or all column numbers"),
        ({"format": "label_first", "label_field": "topic"}, "has no columns"),
        ({"class_weights": {"a": 0.0}}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        params(**more)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text,label\n", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "text,topic\nx,1\n", "a.csv:2 has no field 'label'; it has 'text', 'topic'"),
        ("a.csv", "text,label\nx,1,2\n", "a.csv:2 has 3 cells, its header 2"),
        ("a.csv", "text,label,text\nx,1,y\n", "a.csv:1 names column 'text' twice"),
        ("a.csv", 'text,label\n"x,1\n', "is not valid CSV"),
        ("a.csv", "text,label\nx,\n", "a.csv:2 has an empty label"),
        ("a.jsonl", '{"text": "x", "label": null}\n', "None is neither text nor a number"),
        ("a.jsonl", '{"text": ["x"], "label": 1}\n', r"\['x'\] is neither text nor a number"),
        ("a.jsonl", "[]\n", "a.jsonl:1 holds a list; expected a JSON object"),
        ("a.dat", "x", "cannot tell the format"),
    ],
)
def test_one_clear_error(write: Write, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classification.read(write(name, text), params())


def test_rows_without_header_are_of_one_length(write: Write) -> None:
    path = write("a.tsv", "x\t1\ny\t1\t2\n")
    with pytest.raises(DataError, match=r"a\.tsv:2 has 3 cells, its first row 2"):
        rows(path, text_field=0, label_field=1)


def test_line_numbers_count_quoted_line_ends(write: Write) -> None:
    path = write("a.csv", 'text,label\n"two\nlines",1\nx,\n')
    with pytest.raises(DataError, match=r"a\.csv:4 has an empty label"):
        classification.read(path, params())


def test_inputs_of_pairs() -> None:
    given = params(text_field="one", text_pair_field="two")
    found = classification.from_inputs([{"one": "a", "two": "b"}], given)
    assert found.rows[0].texts == ("a", "b")
    with pytest.raises(DataError, match="input 1 needs a string in each of 'one', 'two'; it has "):
        classification.from_inputs([{"one": "a"}], given)
    numbered = params(text_field=0, text_pair_field=1, label_field=2)
    found = classification.from_inputs([{"text": "a", "text_pair": "b"}], numbered)
    assert found.rows[0].texts == ("a", "b")


NUMBERED = {"text_field": 0, "label_field": 1}
PUBLIC = [
    ("banking77/train.csv", {"label_field": "category"}, 10003, 77),
    ("banking77/test.csv", {"label_field": "category"}, 3080, 77),
    ("chnsenticorp/train.tsv", NUMBERED, 9600, 2),
    ("chnsenticorp/dev.tsv", NUMBERED, 1200, 2),
    (
        "afqmc/train.txt",
        {"format": "tsv", "text_field": 0, "text_pair_field": 1, "label_field": 2},
        34334,
        2,
    ),
    ("scicite/train.txt", {"format": "jsonl"}, 7320, 3),
    ("chemprot/train.txt", {"format": "jsonl"}, 4169, 13),
    ("dbpedia-subset/train.csv", {"text_field": 1, "label_field": 0}, 14000, 14),
    ("mr-polarity/rt-polarity.all", {"format": "label_first", "encoding": "cp1252"}, 10662, 2),
    (
        "debian-packages/packages.jsonl.zst",
        {"text_field": "description", "label_field": "section"},
        63666,
        58,
    ),
]


@pytest.mark.parametrize(("name", "more", "num_rows", "num_labels"), PUBLIC)
def test_public_files(name: str, more: dict[str, Any], num_rows: int, num_labels: int) -> None:
    found = classification.read(file_of(name), params(**more))
    assert len(found.rows) == num_rows
    assert len(classification.label_set(found, params(**more))) == num_labels
    assert found.counts["empty_texts"] == 0


def test_public_sets_of_labels() -> None:
    path = file_of("debian-packages/packages.jsonl.zst")
    settings = {"train": path, "text_field": "description", "label_field": "tags"}
    table = multilabel.Params.model_validate({**settings, "unlabelled": "drop"})
    found = multilabel.read(path, table)
    assert found.counts["rows_without_labels"] == 33873
    assert len(found.rows) == 63666 - 33873
    assert len(multilabel.label_set(found, table)) == 597
    seen = Counter(label for row in found.rows for label in row.label)
    assert seen["devel::library"] == 10148
    few = {"labels": ("devel::library", "role::program"), "other_labels": "drop"}
    found = multilabel.read(path, multilabel.Params.model_validate({**settings, **few}))
    assert found.counts["labels"] == 10148 + 8150
