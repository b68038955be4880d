"""Rows of every format, cuts that are counted, and errors that name a line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from finetune.task import Dataset
from finetune.tasks import classification
from finetune.tasks.classification import Params, Row
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError

Write = Callable[[str, str], Path]


def params(path: Path = Path("x"), **more: object) -> Params:
    return Params.model_validate({"train": path, "valid": path, **more})


def rows(path: Path, **more: object) -> list[tuple[tuple[str, ...], str | None]]:
    dataset = classification.read(path, params(path, **more))
    return [(row.texts, row.label) for row in dataset.rows]


def test_every_format_gives_the_same_rows(write: Write) -> None:
    wanted = [(('say "hi", ada',), "1"), (("two\nlines",), "0")]
    csv = write("a.csv", 'label,text\n1,"say ""hi"", ada"\n0,"two\nlines"\n')
    jsonl = write(
        "a.jsonl",
        '{"text": "say \\"hi\\", ada", "label": 1}\n{"text": "two\\nlines", "label": "0"}\n',
    )
    assert rows(csv) == rows(jsonl) == wanted
    tsv = write("a.tsv", 'text\tlabel\nsay "hi", ada\t1\n')
    assert rows(tsv) == wanted[:1]


def test_columns_without_header(write: Write) -> None:
    path = write("a.txt", "eins\tzwei\t0\ndrei\tvier\t1\n")
    found = rows(path, format="tsv", text_field=0, text_pair_field=1, label_field=2)
    assert found == [(("eins", "zwei"), "0"), (("drei", "vier"), "1")]


def test_fields_are_all_names_or_all_numbers() -> None:
    with pytest.raises(ValidationError, match="all names or all column numbers"):
        params(text_field=0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text,label\n", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "text,topic\nx,1\n", "a.csv:2 has no field 'label'; it has 'text', 'topic'"),
        ("a.csv", "text,label\nx,1,2\n", "a.csv:2 has 3 cells, its header 2"),
        ("a.csv", 'text,label\n"x,1\n', "is not valid CSV"),
        ("a.csv", "text,label\nx,\n", "a.csv:2 has an empty label"),
        ("a.jsonl", '{"text": "x", "label": null}\n', "None is neither text nor a number"),
        ("a.dat", "x", "cannot tell the format"),
    ],
)
def test_one_clear_error(write: Write, name: str, text: str, message: str) -> None:
    path = write(name, text)
    with pytest.raises(DataError, match=message):
        classification.read(path, params(path))


def test_line_numbers_count_quoted_line_ends(write: Write) -> None:
    path = write("a.csv", 'text,label\n"two\nlines",1\nx,\n')
    with pytest.raises(DataError, match=r"a\.csv:4 has an empty label"):
        classification.read(path, params(path))


def test_labels(write: Write) -> None:
    path = write("a.csv", "text,label\na,y\nb,x\nc,y\n")
    dataset = classification.read(path, params(path))
    assert classification.label_set(dataset, params(path)) == ["x", "y"]
    assert classification.label_set(dataset, params(path, labels=("y", "x", "z"))) == list("yxz")
    with pytest.raises(DataError, match=r"a.csv:3: label 'x' is not in the label set \(y, z\)"):
        classification.label_set(dataset, params(path, labels=("y", "z")))
    single = write("b.csv", "text,label\na,y\n")
    with pytest.raises(DataError, match="single label 'y'"):
        classification.label_set(classification.read(single, params()), params())


def test_long_texts_are_cut_and_counted(tokenizer: Tokenizer) -> None:
    dataset = Dataset(Path("x"), [Row(("ada " * 9,), "a", 1), Row(("bob",), "b", 2)])
    encoded = classification.encode(dataset, tokenizer, ["a", "b"], params(), 8)
    assert [len(window.input_ids) for window in encoded.windows] == [8, 3]
    assert encoded.counts == {"tokens": 10, "rows_cut": 1, "tokens_cut": 3}
    assert encoded.windows[0].input_ids[-1] == 3  # [SEP] is kept


def test_pairs_have_token_types_and_the_longer_text_is_cut(tokenizer: Tokenizer) -> None:
    given = params(text_pair_field="pair")
    dataset = Dataset(Path("x"), [Row(("ada " * 9, "bob met"), "a", 1), Row(("", "bob"), "b", 2)])
    first, second = classification.encode(dataset, tokenizer, ["a", "b"], given, 9).windows
    assert first.token_type_ids is not None
    assert first.token_type_ids.tolist() == [0] * 6 + [1] * 3  # [CLS] 4 ada [SEP], bob met [SEP]
    assert second.input_ids[:2].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("sizes", "capacity", "kept"),
    [((9, 2), 6, (4, 2)), ((2, 9), 6, (2, 4)), ((9, 9), 7, (4, 3)), ((3, 9), 6, (3, 3))],
)
def test_cutting_pairs(sizes: tuple[int, int], capacity: int, kept: tuple[int, int]) -> None:
    parts = classification.cut_longest([np.zeros(n, dtype=np.int32) for n in sizes], capacity)
    assert tuple(map(len, parts)) == kept


def test_predictions_and_the_majority(tokenizer: Tokenizer) -> None:
    dataset = Dataset(Path("x"), [Row(("ada",), "a", 1), Row(("bob",), "b", 2)])
    encoded = classification.encode(dataset, tokenizer, ["a", "b"], params(), 8)
    logits = [np.array([[2.0, 0.0]], dtype=np.float32), np.array([[1.0, 0.0]], dtype=np.float32)]
    predictions = classification.decode(dataset, encoded, logits, ["a", "b"], {})
    assert [p.label for p in predictions] == ["a", "a"]
    assert predictions[0].probabilities.sum() == pytest.approx(1.0)
    assert classification.score(dataset, predictions, ["a", "b"]).metrics["accuracy"] == 0.5
    found = classification.baselines(dataset, dataset, ["a", "b"])
    assert found["majority"]["accuracy"] == 0.5
