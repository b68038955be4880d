"""Served without torch, a model of every kind of task answers as torch does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import predict
from finetune.config import Export
from finetune.exporters import onnx
from finetune.runners import FILES
from finetune.tasks import ner
from tests.finetune import models
from tests.ranks import ROOT

pytestmark = pytest.mark.slow
# What serving must not need: another interpreter refuses to import it.
KEPT_OUT = (
    "torch", "transformers", "deepspeed", "datasets", "huggingface_hub", "sklearn", "scipy",
    "pandas", "pyarrow", "onnx", "tensorboard", "matplotlib", "seqeval",
)  # fmt: skip
SERVER = f"""
import sys
for name in {KEPT_OUT!r}:
    sys.modules[name] = None  # importing it is an ImportError
from finetune.__main__ import main
code = main(["predict", sys.argv[1], "--runtime", sys.argv[2], "--threads", "1"])
print(sorted(name for name in {KEPT_OUT!r} if sys.modules.get(name)), file=sys.stderr)
raise SystemExit(code)
"""
INPUTS: dict[str, list[dict[str, Any]]] = {
    "people": [
        {"text": "Ada visited New York.", "document": 1},
        {"text": "bob met dan . " * 30, "document": 1},
        {"tokens": ["carla", "met", "", "oslo"]},
        {"text": ""},
        {"text": "new york new york today", "document": 2},
    ],
    "reviews": [{"text": "the film was lovely"}, {"text": ""}, {"text": "awful " * 90}],
    "order": [
        {"text": "ada met rome", "second": "oslo"},
        {"text": "ada met paris", "second": "lima"},
        {"text": "ada " * 50, "second": "lima " * 50},
    ],
    "topics": [{"text": "the good film"}, {"text": "the bad play"}, {"text": ""}],
    "length": [{"text": "the good film bad play"}, {"text": "the"}],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each task with its ONNX graphs; that of people is a CRF with document context."""
    tasks = models.write_tasks(tmp_path_factory.mktemp("served"))
    found = {}
    for task in INPUTS:
        overrides = models.DOCUMENTS if task == "people" else ()
        folder = found[task] = models.train(tasks, task, overrides)
        predictor = predict.load(folder)
        windows = predictor.encode(predictor.rows(INPUTS[task])).windows[:2]
        batch = predict.collate(windows, predictor.plugin.HEAD, predictor.tokenizer.pad_id)
        sample = {name: batch[name] for name in predict.MODEL_INPUTS if name in batch}
        graph = folder / FILES["onnx"]
        onnx.write(folder, predictor.plugin.HEAD, sample, Export().opset, graph)
        onnx.write_int8(graph, folder / FILES["onnx-int8"])
    return found


def served(folder: Path, runtime: str, inputs: Iterable[Any]) -> list[Any]:
    """Answers of a process that cannot import torch."""
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(folder), runtime],
        input="".join(json.dumps(given) + "\n" for given in inputs),
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
    return [json.loads(line) for line in done.stdout.splitlines()]


def alike(found: Any, wanted: Any, tolerance: float) -> None:
    """The same JSON, numbers within a tolerance."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            alike(found[key], value, tolerance)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            alike(one, other, tolerance)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=tolerance)
    else:
        assert found == wanted


@pytest.mark.parametrize("task", INPUTS)
def test_a_process_without_torch_answers_as_torch_does(task: str, folders: dict[str, Path]) -> None:
    wanted = predict.load(folders[task])(INPUTS[task])
    found = served(folders[task], "onnx", INPUTS[task])
    kept = [{**given, **answer} for given, answer in zip(INPUTS[task], wanted, strict=True)]
    alike(found, kept, 2e-4)


def test_the_served_model_has_learnt_something(folders: dict[str, Path]) -> None:
    """Else equal answers would prove little."""
    people = served(folders["people"], "onnx-int8", INPUTS["people"])
    named = [[(each["text"], each["label"]) for each in row["entities"]] for row in people]
    assert named[0] == [("Ada", "PER"), ("New York", "LOC")]
    assert named[1] == [("bob", "PER"), ("dan", "PER")] * 30
    assert named[3] == []
    order = served(folders["order"], "onnx-int8", INPUTS["order"])
    assert [row["label"] for row in order[:2]] == ["north", "south"]
    predictor = predict.load(folders["people"], "onnx-int8")
    assert isinstance(predictor.task, ner.Params)
    assert np.array(predictor.decoding["transitions"]["between"]).shape == (5, 5)


@pytest.mark.parametrize("task", INPUTS)
def test_eight_bits_change_scores_little(task: str, folders: dict[str, Path]) -> None:
    predictors = [predict.load(folders[task], runtime) for runtime in ("onnx", "onnx-int8")]
    rows = [predictor.rows(INPUTS[task]) for predictor in predictors]
    logits = [
        np.concatenate(predictor.logits(predictor.encode(given)))
        for predictor, given in zip(predictors, rows, strict=True)
    ]
    assert np.abs(logits[0] - logits[1]).max() > 0.0
    assert np.abs(logits[0] - logits[1]).mean() < 0.1
