"""Answers come in input order with the input's other fields, and complaints name the line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune import predict
from finetune.predict import Predictor
from runtime.errors import DataError
from tests.finetune import models
from tests.ranks import ROOT


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def people_folder(tasks: Path) -> Path:
    return models.train(tasks, "people", (*models.DOCUMENTS, "tasks.people.crf=false"))


@pytest.fixture(scope="module")
def people(people_folder: Path) -> Predictor:
    return predict.load(people_folder)


@pytest.fixture(scope="module")
def reviews(tasks: Path) -> Predictor:
    return predict.load(models.train(tasks, "reviews"))


def answers(predictor: Predictor, text: str | bytes) -> list[Any]:
    target = io.StringIO()
    raw = text if isinstance(text, bytes) else text.encode()
    assert predict.predict_lines(predictor, io.BytesIO(raw), target) == len(
        target.getvalue().splitlines()
    )
    return [json.loads(line) for line in target.getvalue().splitlines()]


def test_spans_have_characters_and_confidence(people: Predictor) -> None:
    (row,) = people(["Ada visited  New York."])
    found = [(e["start"], e["end"], e["label"], e["text"]) for e in row["entities"]]
    assert found == [(0, 3, "PER", "Ada"), (13, 21, "LOC", "New York")]
    assert all(0.5 < entity["confidence"] <= 1 for entity in row["entities"])


def test_other_fields_are_kept_and_lines_stay_in_order(reviews: Predictor) -> None:
    text = (
        '{"id": 7, "text": "the film was lovely"}\n\n"the film was awful"\n{"text": "", "x": null}'
    )
    rows = answers(reviews, text)
    assert [row["label"] for row in rows[:2]] == ["pos", "neg"]
    assert rows[0]["id"] == 7
    assert rows[1]["text"] == "the film was awful"
    assert rows[2]["x"] is None
    assert sum(rows[2]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("batch_tokens", [8, 64, 4096])
def test_batches_do_not_change_answers(people_folder: Path, batch_tokens: int) -> None:
    texts = ["ada met bob", "", "dan visited rome today .", "carla met dan . " * 30, "x"]
    found = predict.load(people_folder, batch_tokens=batch_tokens)(texts)
    assert [row["text"] for row in found] == texts
    assert spans(found[3])[-1][1] > 450  # in windows: longer than 64 positions
    alone = [predict.load(people_folder)([text])[0] for text in texts]
    assert list(map(spans, found)) == list(map(spans, alone))


def spans(row: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(each["start"], each["end"], each["label"]) for each in row["entities"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"good"\n\n{"text": \n', r"input line 3 is not valid JSON"),
        ('"good"\n[1]\n', r"input line 2 must be a JSON string or object"),
        (b'"good"\n"\xff"\n', r"input line 2 is not UTF-8 \(invalid start byte at byte 1\)"),
        ('"good"\n\n{"tekst": "x"}\n', r"input 3 needs a string in .*'text'; it has 'tekst'"),
    ],
)
def test_a_complaint_names_the_line(reviews: Predictor, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        answers(reviews, text)


def test_lines_are_counted_over_chunks(reviews: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "CHUNK", 2)
    target = io.StringIO()
    lines = [b'"good"\n'] * 4 + [b'{"text": 1}\n']
    with pytest.raises(DataError, match="input 5 needs a string"):
        predict.predict_lines(reviews, lines, target)
    assert len(target.getvalue().splitlines()) == 4  # what came before is answered


def test_a_document_is_never_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "CHUNK", 2)
    keys = ["a", "a", "a", "b", None, None, None]
    inputs = [(i, {"text": str(i), "document": key}) for i, key in enumerate(keys)]
    found = [[number for number, _ in chunk] for chunk in predict.chunks(inputs, "document")]
    assert found == [[0, 1, 2], [3, 4], [5, 6]]
    found = [[number for number, _ in chunk] for chunk in predict.chunks(inputs, None)]
    assert found == [[0, 1], [2, 3], [4, 5], [6]]


def test_inputs_of_a_document_are_context_of_each_other(people: Predictor) -> None:
    sentences = ["ada met bob .", "dan visited rome .", "carla met dan ."]
    together = people.encode(people.rows([{"text": s, "document": "d"} for s in sentences]))
    assert len(together.windows) == 1
    assert len(people.encode(people.rows(sentences)).windows) == 3


def test_one_text_is_no_list(people: Predictor) -> None:
    with pytest.raises(TypeError, match="pass a list of texts"):
        people("Ada")


def test_folders_that_are_no_task_model(tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is an encoder, not a task model"):
        predict.load(tasks / "encoder")
    with pytest.raises(DataError, match=r"is no fine-tuned model: it has no textmill\.json"):
        predict.load(tmp_path)


def test_a_runtime_that_was_not_exported(people_folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no model\.int8\.onnx; write .* onnx_int8=true`"):
        predict.load(people_folder, "onnx-int8")
    with pytest.raises(DataError, match=r"has no model\.tflite; write .* tflite=true`"):
        predict.load(people_folder, "tflite")


def test_another_threshold(people: Predictor, reviews: Predictor) -> None:
    texts = ["Ada visited New York .", "bob met dan and today rome met the film"]
    every = found_at(people, texts, 1e-3)
    assert found_at(people, texts, 1.0) == set()
    for least in (0.3, 0.9, 0.999):  # above a half none overlap
        found = found_at(people, texts, least)
        assert all(chance >= least for *_, chance in found)
        if least >= 0.5:
            assert found == {each for each in every if each[-1] >= least}
    assert people.at(None) is people
    with pytest.raises(DataError, match="a classification model gives every row one answer"):
        reviews.at(0.5)
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(DataError, match="a threshold is a probability above 0, at most 1, not"):
            people.at(wrong)


def found_at(people: Predictor, texts: list[str], least: float) -> set[tuple[Any, ...]]:
    return {
        (i, each["start"], each["end"], each["confidence"])
        for i, row in enumerate(people.at(least)(texts))
        for each in row["entities"]
    }


def test_evaluate_scores_a_file(tasks: Path, people_folder: Path) -> None:
    found = predict.evaluate(people_folder, tasks / "test.conll")
    assert found["metrics"]["f1"] > 0.9
    assert found["data"]["sentences"] == 21
    assert found["contamination"] == "contamination unknown"
    assert predict.evaluate(people_folder, tasks / "test.conll", threshold=1)["metrics"]["f1"] == 0
    bad = tasks / "bad.conll"
    bad.write_text("ada\tB-DOG\n")
    with pytest.raises(DataError, match=r"bad\.conll:1: label 'DOG' is not in the label set"):
        predict.evaluate(people_folder, bad)


def test_the_command_answers_standard_input(people_folder: Path) -> None:
    command = [sys.executable, "-m", "finetune", "predict", str(people_folder)]
    done = subprocess.run(
        [*command, "--threads", "1", "--batch-tokens", "64"],
        input='{"text": "北京 ada met bob", "n": [1]}\n', capture_output=True, text=True,
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["n"] == [1]
    assert row["text"] == "北京 ada met bob"
    wrong = subprocess.run(
        [*command, "--threshold", "7"], input="", capture_output=True, text=True, cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert wrong.returncode == 3
    assert wrong.stderr.splitlines()[-1].endswith(
        "a threshold is a probability above 0, at most 1, not 7"
    )
