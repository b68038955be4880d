"""Any number of labels a row: lists, thresholds, scores, and a model that learns."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from finetune.scores import bootstrap
from finetune.task import Dataset, Encoded
from finetune.tasks import multilabel
from finetune.tasks.multilabel import Params, Prediction
from finetune.texts.labelled_text import Row
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError
from tests.finetune.learning import answers

Write = Callable[[str, str], Path]
LABELS = ["a", "b", "c"]


def params(**more: Any) -> Params:
    return Params.model_validate({"train": Path("x"), **more})


def dataset(*sets: str) -> Dataset:
    """Rows labelled by the letters of these strings."""
    rows = [Row((f"ada {i}",), tuple(letters), i) for i, letters in enumerate(sets)]
    return Dataset(Path("x"), list(rows))


def predicted(sets: Sequence[str], *probabilities: Sequence[float]) -> list[Prediction]:
    pairs = zip(sets, probabilities, strict=True)
    return [Prediction(tuple(letters), np.array(row)) for letters, row in pairs]


def logits(*rows: Sequence[float]) -> list[NDArray[np.float32]]:
    return [np.array([row], dtype=np.float32) for row in rows]


def encode(given: Dataset, tokenizer: Tokenizer) -> Encoded:
    return multilabel.encode(given, tokenizer, LABELS, params(), 8)


def sets(path: Path, **more: Any) -> list[tuple[str, ...]]:
    return [row.label for row in multilabel.read(path, params(**more)).rows]


def test_lists_and_cells_give_the_same_sets(write: Write) -> None:
    wanted = [("b", "a"), (), ("2",)]
    lists = '{"text": "x", "labels": %s}\n' * 3 % ('["b", "a", "b"]', "[]", "[2]")
    assert sets(write("a.jsonl", lists)) == wanted
    cells = write("a.csv", "text,labels\nx,b | a|b\nx,\nx,2\n")
    assert sets(cells, label_separator="|") == wanted


def test_rows_without_labels_are_counted_and_may_go(write: Write) -> None:
    path = write("a.csv", "text,labels\nx,a b\ny,\nz,c\n")
    given = {"label_separator": " ", "labels": ("a", "b"), "other_labels": "drop"}
    kept = multilabel.read(path, params(**given))
    assert [row.label for row in kept.rows] == [("a", "b"), (), ()]
    assert kept.counts == {
        "rows": 3, "empty_texts": 0, "labels_dropped": 1, "rows_without_labels": 2, "labels": 2,
    }  # fmt: skip
    assert len(multilabel.read(path, params(**given, unlabelled="drop")).rows) == 1
    with pytest.raises(DataError, match=r"no row of .*a\.csv has a label"):
        multilabel.read(path, params(**given | {"labels": ("z",)}, unlabelled="drop"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"a,b"', r"a\.jsonl:1: 'a,b' is no list of labels; write one, or set `label_separator`"),
        ('{"a": 1}', "is no list of labels"),
        ("null", "None is no list of labels"),
        ('["a", " "]', r"a\.jsonl:1 has an empty label"),
        ('["a", null]', "None is neither text nor a number"),
    ],
)
def test_what_is_no_list_of_labels(write: Write, value: str, message: str) -> None:
    path = write("a.jsonl", f'{{"text": "x", "labels": {value}}}\n')
    with pytest.raises(DataError, match=message):
        multilabel.read(path, params())


def test_labels_are_those_of_training(write: Write) -> None:
    assert multilabel.label_set(dataset("b", "ab", ""), params()) == ["a", "b"]
    with pytest.raises(DataError, match="x:1: label 'c' is not in the label set"):
        multilabel.check_labels(dataset("a", "c"), ["a", "b"])
    with pytest.raises(DataError, match="no row of x has a label"):
        multilabel.label_set(dataset("", ""), params())


def test_targets_are_yes_or_no_of_every_label(tokenizer: Tokenizer) -> None:
    windows = encode(dataset("ca", ""), tokenizer).windows
    assert [w.targets.tolist() for w in windows] == [[[1.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]]]
    unlabelled = multilabel.from_inputs([{"text": "ada"}], params())
    assert np.isnan(encode(unlabelled, tokenizer).windows[0].targets).all()


def test_balanced_weights_make_a_yes_as_heavy_as_all_noes() -> None:
    given = dataset("a", "a", "ab", "")
    found = multilabel.loss(given, LABELS, params(class_weights="balanced"))
    assert found.kind == "binary"
    assert found.class_weights == pytest.approx((1 / 3, 3.0, 1.0))  # no row has c
    rare = dataset("b", *["a"] * 500)
    balanced = multilabel.loss(rare, LABELS[:2], params(class_weights="balanced"))
    assert balanced.class_weights == pytest.approx((1 / 500, 100.0))
    everywhere = multilabel.loss(dataset("a"), ["a"], params(class_weights="balanced"))
    assert everywhere.class_weights == (1.0,)
    with pytest.raises(DataError, match="class_weights names 'z'"):
        multilabel.loss(given, LABELS, params(class_weights={"z": 2.0}))


def test_thresholds_travel_in_decoding(tokenizer: Tokenizer) -> None:
    given = dataset("a", "a", "b", "")
    encoded = encode(given, tokenizer)
    outputs = logits([-1.0, -9, -9], [-2.0, -9, -9], [-3.0, -1.0, -9], [-3.0, -9, -9])
    start = dict(multilabel.loss(given, LABELS, params()).decoding)
    before = multilabel.decode(given, encoded, outputs, LABELS, start)
    assert [p.labels for p in before] == [(), (), (), ()]
    fitted = multilabel.calibrate(given, encoded, outputs, LABELS, start)
    after = multilabel.decode(given, encoded, outputs, LABELS, fitted)
    assert [p.labels for p in after] == [("a",), ("a",), ("b",), ()]
    assert len(set(fitted["thresholds"])) == 1
    assert fitted["calibration"]["micro_f1_before"] == 0.0
    assert fitted["calibration"]["micro_f1_after"] == 1.0
    json.dumps(fitted)
    sure = multilabel.with_threshold(fitted, 0.2, LABELS)
    least = multilabel.decode(given, encoded, outputs, LABELS, sure)
    assert [p.labels for p in least] == [("a",), (), ("b",), ()]
    half = dict(multilabel.loss(given, LABELS, params(thresholds="half")).decoding)
    assert multilabel.calibrate(given, encoded, outputs, LABELS, half) == half
    each = dict(multilabel.loss(given, LABELS, params(thresholds="per_label")).decoding)
    found = multilabel.calibrate(given, encoded, outputs, LABELS, each)["thresholds"]
    assert found[1] > found[0] == found[2] == fitted["thresholds"][0]  # valid has no c


def test_windows_of_a_row_are_averaged(tokenizer: Tokenizer) -> None:
    given = Dataset(Path("x"), [Row(("ada " * 10,), ("a",), 1)])
    table = params(long_texts="windows", window_overlap=0)
    encoded = multilabel.encode(given, tokenizer, LABELS, table, 8)
    (found,) = multilabel.decode(given, encoded, logits([8.0, 9, 9], [-9.0, 9, 0]), LABELS, {})
    assert found.probabilities == pytest.approx([0.5, 1.0, 0.75], abs=1e-3)
    assert found.labels == ("b", "c")


def test_what_a_report_needs() -> None:
    given = dataset("ab", "c", "")
    found = predicted(["a", "c", "b"], [0.9, 0.2, 0.1], [0.1, 0.1, 0.8], [0.1, 0.7, 0.1])
    scores = multilabel.score(given, found, LABELS)
    assert scores.metrics["subset_accuracy"] == pytest.approx(1 / 3)
    assert scores.metrics["micro_f1"] == pytest.approx(4 / 6)
    assert multilabel.gold(given.rows[0]) == ["a", "b"]
    assert multilabel.curves(given, found, LABELS)["b"] == ([True, False, False], [0.2, 0.1, 0.7])
    analysis = multilabel.analysis(given, given, found, LABELS, params())
    assert analysis["counts"] == {
        "rows": 3, "rows_wrong": 2, "labels_missed": 1, "labels_spurious": 1,
    }  # fmt: skip
    surest = analysis["examples"]["surest_errors"]
    assert [(each["line"], each["gold"], each["predicted"]) for each in surest] == [
        (0, ["a", "b"], {"a": 0.9}),  # b was 0.8 from its truth
        (2, [], {"b": 0.7}),
    ]
    final = multilabel.final_report(given, found, LABELS)
    assert final["label_table"].splitlines()[3].split() == ["c", "1.000", "1.000", "1.000", "1"]
    assert final["lrap"] == pytest.approx(1.0)
    answer = multilabel.answer(given.rows[0], found[0], LABELS)
    assert answer == {"labels": ["a"], "probabilities": {"a": 0.9, "b": 0.2, "c": 0.1}}
    json.dumps([scores.report, analysis, final])


def test_the_most_frequent_labels_are_the_baseline() -> None:
    train, given = dataset("ab", "ab", "ac"), dataset("ab", "c")
    found = multilabel.baselines(train, given, LABELS)["frequent"]  # a and b everywhere
    assert found["subset_accuracy"] == 0.5
    assert found["micro_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert found["auc"] == 0.5


def test_every_metric_that_chooses_models_has_a_score_and_an_interval() -> None:
    given = dataset("ab", "a", "bc", "", "c", "b")
    rng = np.random.default_rng(0)
    found = predicted(["ab", "b", "bc", "", "c", "a"], *rng.random((6, 3)))
    scores = multilabel.score(given, found, LABELS).metrics
    names = bootstrap.metrics_of(multilabel)
    intervals = bootstrap.intervals(multilabel, given, found, LABELS, names)
    for name in names:
        assert intervals[name]["low"] <= scores[name] <= intervals[name]["high"]


def test_a_model_learns_two_questions_at_once(encoder_folder: Path) -> None:
    rows: list[Row] = []
    for i in range(63):
        praise, place = ("good", "bad", "play")[i % 3], ("oslo", "rome", "the")[i // 3 % 3]
        labels = ("praise",) * (praise == "good") + ("north",) * (place == "oslo")
        rows.append(Row((f"{praise} film in {place}",), labels, i))
    asked = [{"text": f"{text} film in oslo"} for text in ("good", "bad")]
    asked.append({"text": "bad film in rome"})
    given = Dataset(Path("x"), list(rows))
    found = answers(multilabel, given, params(), encoder_folder, asked)
    assert [sorted(each["labels"]) for each in found] == [["north", "praise"], ["north"], []]
