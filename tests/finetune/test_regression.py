"""Numbers: what is one, standardised learning, answers in the unit of the labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune.losses import SummedLoss
from finetune.scores import bootstrap
from finetune.task import Dataset
from finetune.tasks import regression
from finetune.tasks.regression import Params, Prediction
from finetune.texts.labelled_text import Row
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError
from tests.finetune.learning import answers

Write = Callable[[str, str], Path]


def params(**more: Any) -> Params:
    return Params.model_validate({"train": Path("x"), **more})


def dataset(*values: float) -> Dataset:
    return Dataset(Path("x"), [Row((f"ada {i}",), value, i) for i, value in enumerate(values)])


def predicted(*values: float) -> list[Prediction]:
    return [Prediction(value) for value in values]


def test_numbers_of_both_formats(write: Write) -> None:
    csv = write("a.csv", "text,label\nx, 1.5\ny,-2e3\n")
    jsonl = write("a.jsonl", '{"text": "x", "label": 1.5}\n{"text": "y", "label": "-2000"}\n')
    for path in (csv, jsonl):
        assert [row.label for row in regression.read(path, params()).rows] == [1.5, -2000.0]


@pytest.mark.parametrize(
    "value", ['"1,5"', '"x"', '""', '"nan"', '"inf"', "NaN", "true", "null", "[1]"]
)
def test_what_is_no_number(write: Write, value: str) -> None:
    path = write("a.jsonl", f'{{"text": "x", "label": {value}}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: .* is no finite number; write one like 3.5"):
        regression.read(path, params())


def test_one_number_everywhere_teaches_nothing() -> None:
    with pytest.raises(DataError, match=r"every row of x has the number 3\.0: nothing to learn"):
        regression.label_set(dataset(3.0, 3.0), params())
    assert regression.label_set(dataset(3.0, 4.0), params()) == ["value"]


def test_learnt_in_deviations_and_answered_in_the_unit(tokenizer: Tokenizer) -> None:
    given = dataset(100.0, 300.0)
    table = regression.loss(given, ["value"], params())
    assert table.decoding == {"mean": 200.0, "deviation": 100.0}
    encoded = regression.encode(given, tokenizer, ["value"], params(), 8)
    assert [window.targets.tolist() for window in encoded.windows] == [[[100.0]], [[300.0]]]
    outputs = [np.array([[-1.0]], dtype=np.float32), np.array([[1.0]], dtype=np.float32)]
    targets = torch.from_numpy(np.concatenate([window.targets for window in encoded.windows]))
    scored = torch.from_numpy(np.concatenate(outputs))
    assert float(SummedLoss(table, 1)(scored, targets, torch.tensor([1, 1]))) == 0.0
    found = regression.decode(given, encoded, outputs, ["value"], table.decoding)
    assert [p.value for p in found] == [100.0, 300.0]
    assert regression.calibrate(given, encoded, outputs, ["value"], table.decoding) == (
        table.decoding
    )
    unlabelled = regression.from_inputs([{"text": "ada"}], params())
    (window,) = regression.encode(unlabelled, tokenizer, ["value"], params(), 8).windows
    assert np.isnan(window.targets).all()


def test_windows_of_a_row_are_averaged(tokenizer: Tokenizer) -> None:
    given = Dataset(Path("x"), [Row(("ada " * 10,), 1.0, 1)])
    table = params(long_texts="windows", window_overlap=0)
    encoded = regression.encode(given, tokenizer, ["value"], table, 8)
    outputs = [np.array([[1.0]], dtype=np.float32), np.array([[2.0]], dtype=np.float32)]
    (found,) = regression.decode(
        given, encoded, outputs, ["value"], {"mean": 10.0, "deviation": 2.0}
    )
    assert found.value == pytest.approx(13.0)


def test_what_a_report_needs() -> None:
    given, found = dataset(1.0, 2.0, 3.0, 4.0), predicted(1.0, 2.5, 3.0, 2.0)
    assert regression.score(given, found, ["value"]).metrics["mae"] == pytest.approx(2.5 / 4)
    assert regression.baselines(given, given, ["value"])["mean"]["mae"] == pytest.approx(1.0)
    assert regression.baselines(given, given, ["value"])["mean"]["pearson"] == 0.0
    analysis = regression.analysis(given, given, found, ["value"], params())
    assert [each["line"] for each in analysis["examples"]["largest_errors"]] == [3, 1]
    assert analysis["by_gold"][3] == {
        "low": 4.0, "high": 4.0, "rows": 1, "bias": -2.0, "mean_absolute_error": 2.0,
    }  # fmt: skip
    assert sum(each["rows"] for each in analysis["by_length"]) == 4
    assert regression.gold(given.rows[0]) == 1.0
    assert regression.answer(given.rows[0], found[1], ["value"]) == {"value": 2.5}
    assert regression.curves(given, found, ["value"]) == {}
    assert regression.final_report(given, found, ["value"]) == {}
    json.dumps(analysis)


def test_every_metric_that_chooses_models_has_a_score_and_an_interval() -> None:
    given, found = dataset(1, 2, 3, 4, 5, 6), predicted(1, 3, 2, 5, 4, 6)
    scores = regression.score(given, found, ["value"]).metrics
    names = bootstrap.metrics_of(regression)
    intervals = bootstrap.intervals(regression, given, found, ["value"], names)
    for name in names:
        assert intervals[name]["low"] <= scores[name] <= intervals[name]["high"]


def test_a_model_learns_numbers_of_a_large_unit(encoder_folder: Path) -> None:
    worth = {"awful": 1000.0, "bad": 2000.0, "good": 3000.0, "lovely": 4000.0}
    rows = [
        Row((f"the film was {word}" + " today" * (i % 3),), value, i)
        for i in range(12)
        for word, value in worth.items()
    ]
    asked = [{"text": f"the film was {word}"} for word in worth]
    found = answers(regression, Dataset(Path("x"), list(rows)), params(), encoder_folder, asked)
    assert [each["value"] for each in found] == pytest.approx(list(worth.values()), abs=400)
