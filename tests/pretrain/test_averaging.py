"""The mean of the last checkpoints: of regular ones, verified, compared with the last weights.

The engine here is one parameter in one file; ZeRO shards are averaged in
test_exports_of_a_run.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pretrain.averaging import FOLDER, Mean, average_last, steps_to_average
from pretrain.evaluate import Evaluation
from pretrain.export import Exporter
from pretrain.train import Job
from runtime import checkpoint, config
from runtime.checkpoint import Position
from runtime.engine import Engine

TABLE = config.Checkpoint(interval_steps=10, keep_last=3, keep_best=False)


class OneWeight:
    """Stands for an engine: the loss is the distance of its weight from 4."""

    stage = 3

    def __init__(self) -> None:
        self.weight = 0.0

    def num_parameters(self) -> int:
        return 1

    def save_shards(self, folder: Path) -> None:
        (folder / "weight").write_text(str(self.weight))

    def load_shards(self, folder: Path, is_universal: bool) -> None:
        self.weight = float((folder / "weight").read_text())

    def full_parameters(self) -> dict[str, Tensor]:
        return {"model.weight": torch.tensor([self.weight])}

    def show_parameters(self, values: Mapping[str, Tensor] | None) -> None:
        assert values is not None
        self.weight = values["model.weight"].item()


class Written:
    """Stands for an exporter: what it was given."""

    def write_weights(self, weights: Any, folder: Path, facts: Mapping[str, Any]) -> None:
        folder.mkdir()
        (folder / "facts").write_text(json.dumps([weights["model.weight"].item(), facts]))


def trained(folder: Path, weights: Mapping[int, float]) -> tuple[Job, Position]:
    """A run that saved these weights at these steps and stands at the last of them."""
    engine = OneWeight()
    position = Position()
    for step, weight in weights.items():
        engine.weight = weight
        position = Position(step=step)
        checkpoint.save(cast(Engine, engine), folder / "checkpoints", position, {}, TABLE)

    def evaluate() -> Evaluation:
        loss = abs(engine.weight - 4)
        return Evaluation({"loss/valid": loss, "eval/accuracy": 0.5}, -loss)

    job = Job(cast(Engine, engine), None, evaluate, None, folder, {})  # type: ignore[arg-type]
    return job, position


def average(count: int, job: Job, position: Position) -> tuple[dict[str, Any], list[Any]]:
    found = average_last(count, job, TABLE, position, cast(Exporter, Written()))
    return found, json.loads((job.folder / FOLDER / "facts").read_text())


def test_the_mean_of_the_last_three_is_exported_and_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "textmill")
    job, position = trained(tmp_path, {10: 99.0, 20: 1.0, 30: 4.0, 40: 8.5})
    found, exported = average(3, job, position)
    assert exported == [4.5, {"averaged_steps": [20, 30, 40]}]  # (1 + 4 + 8.5) / 3
    assert found["metrics"]["loss/valid"] == 0.5
    assert found["metrics_of_last"]["loss/valid"] == 4.5
    assert "steps 20, 30, 40: validation loss 0.5000, the last weights alone 4.5000" in caplog.text


def test_its_evaluation_is_logged_once_however_often_the_end_is_repeated(tmp_path: Path) -> None:
    job, position = trained(tmp_path, {10: 1.0, 20: 3.0})
    average(2, job, position)
    (tmp_path / FOLDER / "facts").unlink()
    (tmp_path / FOLDER).rmdir()
    checkpoint.load_newest(job.engine, tmp_path / "checkpoints", {})  # what another start does
    average(2, job, position)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [21]
    assert lines[0]["eval_average/loss_valid"] == 2.0
    assert lines[0]["eval_average/accuracy"] == 0.5


def test_a_checkpoint_of_a_stopped_run_is_left_out(tmp_path: Path) -> None:
    job, position = trained(tmp_path, {10: 1.0, 20: 2.0, 25: 77.0, 30: 6.0})
    assert average(3, job, position)[1] == [3.0, {"averaged_steps": [10, 20, 30]}]


def test_the_last_step_counts_wherever_it_is(tmp_path: Path) -> None:
    job, position = trained(tmp_path, {10: 1.0, 20: 2.0, 24: 6.0})
    assert average(2, job, position)[1] == [4.0, {"averaged_steps": [20, 24]}]


def test_too_few_or_damaged_checkpoints_are_said_and_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, position = trained(tmp_path, {10: 1.0, 20: 3.0, 30: 5.0})
    (tmp_path / "checkpoints/step-00000020/weight").write_text("9.0")
    found, exported = average(3, job, position)
    assert exported == [3.0, {"averaged_steps": [10, 30]}]
    assert found["steps"] == [10, 30]
    assert "step-00000020 is damaged and not averaged" in caplog.text
    assert "only 2 of 3 checkpoints could be averaged" in caplog.text


def test_steps_of_a_short_run(tmp_path: Path) -> None:
    trained(tmp_path, {10: 1.0})
    assert steps_to_average(tmp_path / "checkpoints", 10, TABLE, 3) == [10]
    assert steps_to_average(tmp_path / "checkpoints", 10, TABLE, 1) == [10]


def test_numbers_that_are_not_weights_are_those_of_the_last() -> None:
    mean = Mean()
    mean.add({"weight": torch.tensor([1.0, 2.0]), "ids": torch.tensor([5])})
    mean.add({"weight": torch.tensor([2.0, 4.0]), "ids": torch.tensor([9])})
    found = mean.mean()
    assert found is not None
    assert found["weight"].tolist() == [1.5, 3.0]
    assert found["weight"].dtype == torch.float32
    assert found["ids"].tolist() == [5]  # added first: the last weights come first
    assert Mean().mean() is None
