"""A target is written only if it computes what torch computes; what was measured is reported."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import predict
from finetune.commands.export import table_of
from finetune.config import Export
from finetune.exporters import export, tflite
from finetune.predict import Predictor
from finetune.runners import FILES, Inputs, row_of
from finetune.task import Dataset
from runtime.errors import DataError, RecipeError
from tests.finetune import models
from tests.ranks import ROOT

TFLITE = ROOT / ".venv" / "tflite"  # see the Makefile
BOTH = Export(onnx=True, onnx_int8=True, max_score_drop=0.1)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def people(tasks: Path) -> Path:
    return models.train(tasks, "people")


@pytest.fixture(scope="module")
def valid(tasks: Path, people: Path) -> Dataset:
    return predict.labelled(predict.load(people), tasks / "valid.conll")


@pytest.fixture(scope="module")
def exported(people: Path, valid: Dataset) -> dict[str, Any]:
    found = export.on_rank_0(people, BOTH, valid)
    assert found is not None
    return found


def test_what_is_reported(exported: dict[str, Any], people: Path) -> None:
    assert list(exported) == ["torch", "onnx", "onnx-int8"]
    fp32, int8 = exported["onnx"], exported["onnx-int8"]
    assert fp32["max_difference"] < 1e-4
    assert fp32["argmax_agreement"] == 1.0
    assert int8["max_difference"] > 1e-4
    for target in ("onnx", "onnx-int8"):
        found = exported[target]
        assert found["metric"] == "f1"
        assert found["score_before"] == exported["torch"]["score_after"] > 0.9
        assert found["score_after"] >= found["score_before"] - 0.1
        assert found["bytes"] == (people / FILES[target]).stat().st_size
        assert list(found["latency_ms"]) == ["16", "32", "64"]
        assert found["sentences_per_second"] > 0
    assert int8["bytes"] < fp32["bytes"]
    assert not list(people.glob(".export-*"))
    json.dumps(exported, allow_nan=False)


def test_the_table_people_read(exported: dict[str, Any]) -> None:
    head, torch_row, *others = export.lines(exported)
    assert head.split()[:3] == ["export", "MB", "f1"]
    assert torch_row.split()[0] == "torch"
    assert [line.split()[0] for line in others] == ["onnx", "onnx-int8"]


def test_nothing_asked_for_is_nothing_done(people: Path, valid: Dataset) -> None:
    assert export.on_rank_0(people, Export(), valid) is None


def test_the_graph_takes_any_batch_and_length(exported: dict[str, Any], people: Path) -> None:
    texts = ["ada met bob .", "dan visited new york today . " * 9, "rome"]
    for count in (1, 3):
        found = predict.load(people, "onnx", batch_tokens=4096)(texts[:count])
        assert found == predict.load(people, "onnx", batch_tokens=1)(texts[:count])


def falsified(predictor: Predictor, by: float) -> Predictor:
    """The first label's logit is raised."""

    def run(arrays: Inputs) -> Any:
        logits = predictor.runner.run(arrays).copy()
        logits[..., 0] += by
        return logits

    return replace(predictor, runner=replace(predictor.runner, run=run))


def open_false(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    right = export.Work.open
    monkeypatch.setattr(
        export.Work, "open", lambda self, target, file: falsified(right(self, target, file), by)
    )


def test_a_graph_that_differs_is_refused(
    people: Path, valid: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_false(monkeypatch, 0.01)
    for file in FILES.values():
        (people / file).unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"onnx model differs .* 0\.01 .*parity_tolerance \(0\.001"):
        export.on_rank_0(people, Export(onnx=True), valid)
    assert not [file for file in FILES.values() if (people / file).exists()]


def test_a_score_that_drops_is_refused_and_others_stay(
    people: Path, valid: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_false(monkeypatch, 100.0)
    table = Export(onnx=True, onnx_int8=True, parity_tolerance=1000.0)
    wanted = (
        r"onnx model scores 0\.0000 f1 on valid, torch .*max_score_drop .*; the onnx-int8 model"
    )
    with pytest.raises(DataError, match=wanted):
        export.on_rank_0(people, table, valid)
    assert not (people / FILES["onnx"]).exists()


def test_the_better_of_two_quantisations_is_kept(
    people: Path, valid: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is made worthless; the first must be kept, whatever it is."""
    right = export.Work.open

    def opened(self: export.Work, target: Any, file: Path) -> Predictor:
        found = right(self, target, file)
        return falsified(found, 100.0) if file.name.startswith("column") else found

    monkeypatch.setattr(export.Work, "open", opened)
    found = export.export(people, Export(onnx_int8=True, max_score_drop=0.1), valid)
    assert list(found) == ["torch", "onnx-int8"]
    assert found["onnx-int8"]["score_after"] > 0.8
    assert not (people / FILES["onnx"]).exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Export(onnx=True), r"export\.onnx needs onnxscript: pip install 'textmill\[onnx\]'"),
        (Export(tflite_int8=True), r"export\.tflite_int8 needs .*litert_torch.*textmill\[tflite\]"),
    ],
)
def test_a_missing_extra_is_named(
    table: Export, message: str, people: Path, valid: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = ("onnxscript", *tflite.MODULES)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in absent else name)
    with pytest.raises(DataError, match=message):
        export.on_rank_0(people, table, valid)


def test_lengths_that_fit_no_input_are_refused() -> None:
    assert tflite.fitting((128, 32, 64), 64) == [32, 64]
    with pytest.raises(DataError, match=r"tflite_lengths \[128, 256\] all exceed .* 64 tokens"):
        tflite.fitting((128, 256), 64)


def test_the_settings_of_the_command() -> None:
    assert table_of([]) == Export(onnx=True)
    assert table_of(["opset=18"]) == Export(onnx=True, opset=18)
    assert table_of(["tflite=true", "tflite_lengths=[8, 16]"]) == Export(
        tflite=True, tflite_lengths=(8, 16)
    )
    with pytest.raises(RecipeError, match="onxx: unknown key; did you mean `onnx`"):
        table_of(["onxx=true"])


@pytest.mark.slow
def test_tflite_with_a_signature_a_length(tasks: Path) -> None:
    """In processes of their own: see the Makefile."""
    if not TFLITE.is_dir():
        pytest.skip(f"the extra `tflite` is not in {TFLITE}; `make .venv/.installed` puts it there")
    folder = models.train(tasks, "order")
    done = run_with_tflite(
        "export", str(folder), str(tasks / "pairs.jsonl"), "tflite=true", "tflite_int8=true",
        "tflite_lengths=[8, 16, 128]", "max_score_drop=0.1",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert list(found) == ["torch", "tflite", "tflite-int8"]
    assert found["torch"]["max_length"] == 64
    for target in ("tflite", "tflite-int8"):
        assert found[target]["max_length"] == 16  # 128 is more than the model has
        assert found[target]["score_after"] == pytest.approx(found["torch"]["score_after"], abs=0.1)
    assert found["tflite"]["max_difference"] < 1e-4
    assert found["tflite-int8"]["max_difference"] > 1e-4
    inputs = [
        {"text": "ada met rome", "second": "oslo"},
        {"text": "ada " * 50, "second": "lima " * 50},  # cut to 16 tokens
    ]
    lines = "".join(json.dumps(given) + "\n" for given in inputs)
    done = run_with_tflite("predict", str(folder), "--runtime", "tflite", given=lines)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = replace(predict.load(folder), max_length=16)(inputs)
    for answer, expected in zip(answers, wanted, strict=True):
        assert answer["label"] == expected["label"]
        for label, probability in expected["probabilities"].items():
            assert answer["probabilities"][label] == pytest.approx(probability, abs=1e-4)


def run_with_tflite(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "finetune", *arguments],
        input=given, capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(TFLITE), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_a_signature_gets_padding_that_the_model_takes_for_padding() -> None:
    row = np.array([2, 8, 3, 1, 1], dtype=np.int64)
    assert row_of(row, "input_ids", 8, pad_id=1).tolist() == [[2, 8, 3, 1, 1, 1, 1, 1]]
    assert row_of(row, "attention_mask", 3, pad_id=1).tolist() == [[2, 8, 3]]
    assert row_of(row, "attention_mask", 6, pad_id=1).dtype == np.int32
