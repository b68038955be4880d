"""Probes: real fine-tuning processes on a tiny encoder; their failures never end a run."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from finetune.config import Recipe
from pretrain.config import Probe
from pretrain.export import Exporter
from pretrain.hooks import Done
from pretrain.probes import Probes, child_environment, child_recipe, num_due
from runtime import recipe, signals
from runtime.checkpoint import Position
from runtime.errors import StopRequested
from tests.finetune.conftest import write_encoder, write_workplace


class Copied:
    """Stands for an exporter: copies a finished encoder."""

    def __init__(self, encoder: Path) -> None:
        self.encoder = encoder

    def write(self, folder: Path, facts: Mapping[str, Any]) -> None:
        shutil.copytree(self.encoder, folder, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def workplace(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: task files, and a recipe that asks for more than a probe needs."""
    monkeypatch.chdir(write_workplace(tmp_path, encoder))
    return tmp_path


def probes(workplace: Path, encoder: Path, *overrides: str, **table: Any) -> Probes:
    overrides = ("tasks.reviews.epochs=1", "engine.threads_per_rank=1", *overrides)
    checked = recipe.load(workplace / "recipe.toml", overrides, Recipe)
    dumped = checked.model_dump(mode="json", exclude_none=True)
    tables = [Probe(task="reviews", **table)]
    return Probes(tables, dumped, cast(Exporter, Copied(encoder)), workplace / "run/pretrain")


def done(step: int, total: int = 8) -> Done:
    return Done(Position(step), step / total, step == total, None)


def test_when_a_probe_is_due() -> None:
    quarter, tenth = Probe(task="a"), Probe(task="a", every_share=0.1)
    assert [num_due(quarter, step / 8) for step in range(9)] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert [num_due(tenth, step / 10) for step in range(11)] == list(range(11))


def test_a_probe_trains_the_task_on_the_export_and_its_score_is_kept(
    workplace: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as a rank of SLURM: the child must not take itself for one."""
    ranked = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1", "SLURM_STEP_ID": "0"}
    for name, value in ranked.items():
        monkeypatch.setenv(name, value)
    hook = probes(workplace, encoder)
    assert hook.after_step(done(1)) == {}
    metrics = hook.after_step(done(2))
    room = workplace / "run/pretrain/probes/step-00000002"
    assert metrics.keys() == {"probe/reviews"}, (room / "reviews.log").read_text()
    assert 0.3 < metrics["probe/reviews"] <= 1.0
    assert sorted(path.name for path in room.iterdir()) == [
        "locks", "logs", "reviews.json", "reviews.log", "reviews.toml",
    ]  # fmt: skip
    assert not [path for name in ("locks", "logs/finetune") for path in (room / name).iterdir()]
    assert hook.after_step(done(3)) == {}
    state = json.loads(json.dumps(hook.state()))  # as a checkpoint holds it
    assert state == {"done": {"reviews": 1}, "scores": {"reviews": [[2, metrics["probe/reviews"]]]}}

    resumed = probes(workplace, encoder)  # from the checkpoint of step 2
    resumed.restore(state)
    assert resumed.after_step(done(3)) == {}

    killed = probes(workplace, encoder)  # from a checkpoint before step 2: the file answers
    began = time.monotonic()
    assert killed.after_step(done(2)) == metrics
    assert time.monotonic() - began < 1
    assert killed.state() == hook.state()

    (room / "reviews.json").write_text((room / "reviews.json").read_text().replace("xxh3:", "x"))
    other = probes(workplace, encoder, "tasks.reviews.train='absent.jsonl'")
    assert other.after_step(done(2)) == {}  # of other weights: run again, and this one fails


def test_a_probe_that_fails_is_reported_and_passed_over(
    workplace: Path, encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hook = probes(workplace, encoder, "tasks.reviews.train='absent.jsonl'")
    assert hook.after_step(done(4)) == {}
    assert "probe reviews failed with exit code 3; training goes on; see" in caplog.text
    assert "waits for absent.jsonl, which is missing" in caplog.text
    assert hook.state() == {"done": {"reviews": 2}, "scores": {"reviews": [(4, None)]}}
    assert hook.after_step(done(5)) == {}


def test_a_probe_that_takes_too_long_is_ended(
    workplace: Path, encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hook = probes(workplace, encoder, max_minutes=0.01)
    began = time.monotonic()
    assert hook.after_step(done(2)) == {}
    assert 0.6 <= time.monotonic() - began < 3
    assert "was ended after 0.01 minutes (max_minutes)" in caplog.text


def test_a_stop_ends_the_probe_and_leaves_it_due(
    workplace: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = probes(workplace, encoder)
    monkeypatch.setattr(signals, "stop_requested", lambda: True)
    with pytest.raises(StopRequested):
        hook.after_step(done(2))
    assert hook.state() == {"done": {}, "scores": {}}
    assert not (hook.folder / "step-00000002/encoder").exists()


def test_the_childs_recipe_is_of_one_task_and_valid(workplace: Path, encoder: Path) -> None:
    overrides = ("engine.threads_per_rank=1", "optimizer.eps=1e-7", "seed=3")
    whole = recipe.load(workplace / "recipe.toml", overrides, Recipe)
    found = child_recipe(whole.model_dump(mode="json", exclude_none=True), "people", Path("room"))
    checked = Recipe.model_validate_json(json.dumps(found))
    assert list(checked.tasks) == ["people"]
    task = checked.tasks["people"]
    assert (task.encoder, task.test, task.control_random_init) == ("room/encoder", None, False)
    assert (task.epochs, checked.optimizer.eps, checked.seed) == (3, 1e-7, 3)
    assert not checked.export.onnx


def test_a_child_knows_nothing_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    told = {"RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "SLURM_PROCID": "1"}
    for name, value in {**kept, **told}.items():
        monkeypatch.setenv(name, value)
    found = child_environment()
    assert kept.items() <= found.items()
    assert not told.keys() & found.keys()
