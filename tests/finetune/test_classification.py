"""One label a row: labels, weights, decoding, calibration, findings, and a model that learns."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from finetune.scores import bootstrap
from finetune.task import Dataset, Encoded, Loss
from finetune.tasks import classification
from finetune.tasks.classification import Params, Prediction
from finetune.texts.labelled_text import Row
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError
from tests.finetune.learning import answers

Write = Callable[[str, str], Path]
LABELS = ["a", "b"]


def params(**more: Any) -> Params:
    return Params.model_validate({"train": Path("x"), **more})


def dataset(*labels: str) -> Dataset:
    return Dataset(Path("x"), [Row((f"ada {i}",), label, i) for i, label in enumerate(labels)])


def logits(*rows: Sequence[float]) -> list[NDArray[np.float32]]:
    return [np.array([row], dtype=np.float32) for row in rows]


def encode(given: Dataset, tokenizer: Tokenizer) -> Encoded:
    return classification.encode(given, tokenizer, LABELS, params(), 8)


def predicted(*probabilities: Sequence[float]) -> list[Prediction]:
    return [Prediction(LABELS[int(np.argmax(row))], np.array(row)) for row in probabilities]


def test_labels(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.csv", "text,label\na,y\nb,x\nc,y\n")
    found = classification.read(path, params())
    assert classification.label_set(found, params()) == ["x", "y"]
    assert classification.label_set(found, params(labels=("y", "x", "z"))) == list("yxz")
    assert "has the label z" in caplog.text
    with pytest.raises(DataError, match=r"a.csv:3: label 'x' is not in the label set \(y, z\)"):
        classification.label_set(found, params(labels=("y", "z")))
    single = classification.read(write("b.csv", "text,label\na,y\n"), params())
    with pytest.raises(DataError, match="single label 'y'"):
        classification.label_set(single, params())


def test_targets_are_label_ids(tokenizer: Tokenizer) -> None:
    given = dataset("b", "a")
    assert [w.targets.tolist() for w in encode(given, tokenizer).windows] == [[1], [0]]
    unlabelled = classification.from_inputs([{"text": "ada"}], params())
    assert encode(unlabelled, tokenizer).windows[0].targets.tolist() == [-100]


def test_balanced_weights_give_every_label_the_same_say() -> None:
    given = dataset("a", "a", "a", "b")
    assert classification.loss(given, LABELS, params()) == Loss()
    found = classification.loss(given, LABELS, params(class_weights="balanced"))
    assert found.class_weights == pytest.approx((4 / 6, 4 / 2))  # scikit-learn's
    weights = classification.loss(given, ["a", "b", "c"], params(class_weights={"b": 3.0}))
    assert weights.class_weights == (1.0, 3.0, 1.0)
    focal = classification.loss(given, LABELS, params(loss="focal", gamma=1.5))
    assert (focal.kind, focal.gamma) == ("focal", 1.5)
    with pytest.raises(DataError, match="class_weights names 'z'; the labels are a, b"):
        classification.loss(given, LABELS, params(class_weights={"z": 2.0}))


def test_decoding_obeys_the_temperature(tokenizer: Tokenizer) -> None:
    given = dataset("a", "b")
    outputs = logits([2.0, 0.0], [1.0, 0.0])
    plain = classification.decode(given, encode(given, tokenizer), outputs, LABELS, {})
    assert [p.label for p in plain] == ["a", "a"]
    assert plain[0].probabilities[1] == pytest.approx(1 / (1 + np.exp(2)))
    warm = classification.decode(
        given, encode(given, tokenizer), outputs, LABELS, {"temperature": 2.0}
    )
    assert warm[0].probabilities[1] == pytest.approx(1 / (1 + np.exp(1)))
    assert classification.decode(Dataset(Path("x"), []), Encoded([]), [], LABELS, {}) == []


def test_windows_of_a_row_vote_by_their_probabilities(tokenizer: Tokenizer) -> None:
    given = Dataset(Path("x"), [Row(("ada " * 10,), "b", 1)])
    table = params(long_texts="windows", window_overlap=0)
    encoded = classification.encode(given, tokenizer, LABELS, table, 8)
    assert [window.targets.tolist() for window in encoded.windows] == [[1], [1]]
    outputs = logits([0.5, 0.0], [0.0, 5.0])
    (found,) = classification.decode(given, encoded, outputs, LABELS, {})
    assert found.label == "b"
    wanted = (1 / (1 + np.exp(0.5)) + 1 / (1 + np.exp(-5.0))) / 2
    assert found.probabilities[1] == pytest.approx(wanted)


def test_calibration_is_kept_beside_what_decoding_has(tokenizer: Tokenizer) -> None:
    given = dataset("a", "b", "a", "b")
    outputs = logits([9.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 0.0])  # too sure
    found = classification.calibrate(given, encode(given, tokenizer), outputs, LABELS, {"x": 1})
    assert found["x"] == 1
    assert found["temperature"] > 5
    assert found["calibration"]["ece_after"] < found["calibration"]["ece_before"]
    json.dumps(found)


def test_what_a_report_needs() -> None:
    given = dataset("a", "b", "b")
    found = predicted([0.9, 0.1], [0.8, 0.2], [0.3, 0.7])
    scores = classification.score(given, found, LABELS)
    assert scores.metrics["accuracy"] == pytest.approx(2 / 3)
    assert scores.metrics["auc"] == 1.0
    assert scores.report["confusion"] == [[1, 0], [1, 1]]
    majority = classification.baselines(given, given, LABELS)["majority"]
    assert majority["accuracy"] == pytest.approx(2 / 3)
    assert (majority["auc"], majority["ece"]) == (0.5, pytest.approx(0.0))
    assert [classification.gold(row) for row in given.rows] == ["a", "b", "b"]
    assert classification.curves(given, found, LABELS)["b"] == (
        [False, True, True],
        [0.1, 0.2, 0.7],
    )
    analysis = classification.analysis(given, given, found, LABELS, params())
    assert analysis["counts"] == {"rows": 3, "wrong": 1}
    assert analysis["examples"]["surest_errors"] == [
        {"line": 1, "text": "ada 1", "gold": "b", "predicted": "a", "confidence": 0.8}
    ]
    assert sum(each["rows"] for each in analysis["calibration"]["bins"]) == 3
    assert sum(each["rows"] for each in analysis["by_length"]) == 3
    table = classification.final_report(given, found, LABELS)["label_table"]
    assert table.splitlines()[1].split() == ["a", "0.500", "1.000", "0.667", "1"]
    json.dumps([scores.report, analysis])


def test_every_metric_that_chooses_models_has_a_score_and_an_interval() -> None:
    given = dataset(*"abababbb")
    found = predicted(*([0.9 - i / 10, 0.1 + i / 10] for i in range(8)))
    scores = classification.score(given, found, LABELS).metrics
    names = bootstrap.metrics_of(classification)
    intervals = bootstrap.intervals(classification, given, found, LABELS, names)
    for name in names:
        assert intervals[name]["low"] <= scores[name] <= intervals[name]["high"]


@pytest.mark.parametrize(
    ("long_texts", "said"),
    [("head_tail", ["good", "bad"]), ("windows", ["good", "bad"]), ("cut", None)],
)
def test_a_model_learns_what_stands_at_the_end_of_long_texts(
    encoder_folder: Path, long_texts: str, said: list[str] | None
) -> None:
    rows: list[Row] = []
    for i in range(64):
        word = ("good", "bad")[i % 2]
        rows.append(Row(("today " * (18 + i % 5) + word, "film"), word, i))
    table = params(
        text_field="first",
        text_pair_field="second",
        long_texts=long_texts,
        window_overlap=4,
        class_weights="balanced",
        loss="focal",
    )
    asked = [{"first": "today " * 20 + word, "second": "film"} for word in ("good", "bad")]
    found = answers(classification, Dataset(Path("x"), list(rows)), table, encoder_folder, asked)
    if said is None:  # the end is out of sight
        assert found[0] == found[1]
    else:
        assert [each["label"] for each in found] == said
