"""Folds of the main task's rows, the other task's rows beside them: real models on two ranks."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune import held_out
from finetune.multitask import held_out as together
from finetune.multitask.prepare import prepare
from tests.finetune.conftest import write_encoder
from tests.finetune.multitask.conftest import loaded, write_tasks
from tests.ranks import Finished, run_ranks

FASTER = ("multitask.both.epochs=1", "multitask.both.learning_rate=5e-3")


def crossvalidated(folder: Path, *more: str, world: int = 2) -> Finished:
    arguments = ["crossvalidate", "recipe.toml", *FASTER, "--task", "both", "--folds", "2", *more]
    return run_ranks(["-m", "finetune", *arguments], world, folder)


def report_of(folder: Path) -> Any:
    path = folder / "run/finetune/both/folds/crossvalidation.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.distributed
def test_the_main_task_is_scored_out_of_fold(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path, write_encoder(tmp_path / "encoders"))
    done = crossvalidated(folder)
    assert done.exit_codes == [0, 0], done.text
    assert "over all 20 training rows, out of fold" in done.outputs[0]
    report = report_of(folder)
    assert (report["task"], report["together_with"]) == ("people", ["reviews"])
    assert [(fold["rows_trained"], fold["rows"]) for fold in report["folds"]] == [(10, 10)] * 2
    lines = (folder / "run/finetune/both/folds/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(20))
    # a weight of the other task is a setting of the folds
    other = crossvalidated(folder, "multitask.both.weights.reviews=0.9", world=1)
    assert other.exit_codes == [3]
    assert "multitask.weights.reviews: 0.5 -> 0.9" in other.text


def test_only_the_main_task_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_tasks(tmp_path, write_encoder(tmp_path / "encoders")))
    recipe = loaded(tmp_path)
    several = prepare(recipe, "both")
    learner = together.learner(recipe, several, tmp_path, False)
    rows = several.main.data["train"].rows
    part = held_out.part(several.main, rows[:12], rows[12:])
    identity, whole = learner.identity(part), learner.identity(several.main)
    assert identity["order"] == ["people", "reviews"]
    assert learner.beside == ["reviews"]
    assert identity["tasks"]["people"] != whole["tasks"]["people"]
    assert identity["tasks"]["reviews"] == whole["tasks"]["reviews"]
