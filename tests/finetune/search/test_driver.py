"""Whole searches: real trials, pruned, failing, killed and continued."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune.config import Recipe
from finetune.search import driver
from runtime import recipe, signals
from runtime.errors import DataError, RecipeError, StopRequested
from tests.finetune.conftest import write_encoder, write_workplace
from tests.finetune.search.searching import add_search, searched, variables
from tests.ranks import wait_for

pytestmark = pytest.mark.distributed
RATE, LENGTH = "tasks.people.learning_rate", "tasks.people.max_length"
GRID = f"""
[search]
target = "people"
sampler = "grid"
pruner = "median"
startup_trials = 1
top = 1
top_seeds = 2
[search.space]
"{RATE}" = {{ values = [5e-3, 1e-6] }}
"{LENGTH}" = {{ values = [64, 4096] }}
"""
SEARCH = Path("run/finetune/search/people")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Four trials: a good one, two that cannot be, one that is hopeless and long."""
    folder = tmp_path_factory.mktemp("grid")
    write_workplace(folder, write_encoder(folder / "encoder"))
    path = add_search(folder, GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = searched(path, ["tasks.people.epochs=16"])
    return folder, found


def test_every_trial_ends_as_it_must(grid: tuple[Path, dict[str, Any]]) -> None:
    _, found = grid
    trials = [(trial["values"][RATE], trial["values"][LENGTH]) for trial in found["trials"]]
    assert trials == [(5e-3, 64), (5e-3, 4096), (1e-6, 64), (1e-6, 4096)]
    assert [trial["state"] for trial in found["trials"]] == ["done", "failed", "pruned", "failed"]
    good, bad, hopeless, _ = found["trials"]
    assert good["score"] > 0.9
    assert good["evaluations"] == 16
    assert bad["error"].startswith("RecipeError: tasks.people.max_length (4096) exceeds")
    assert 1 <= hopeless["evaluations"] < 16
    assert good["seconds"] > 0


def test_a_pruned_trial_saved_and_its_weights_are_gone(
    grid: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = grid
    trial = folder / SEARCH / "trials" / "2"
    assert "SIGTERM received" in (trial / "log.txt").read_text()
    assert not (trial / "process.json").exists()
    assert not list((folder / SEARCH).rglob("checkpoints"))
    assert not list((folder / SEARCH).rglob("export"))


def test_no_trial_knows_the_test_rows(grid: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = grid
    for path in (folder / SEARCH).rglob("recipe.toml"):
        assert "test.conll" not in path.read_text()
    report = json.loads((folder / SEARCH / "trials/0/finetune/people/report.json").read_text())
    assert "valid" in report
    assert "test" not in report


def test_the_best_is_run_again_with_other_seeds(grid: tuple[Path, dict[str, Any]]) -> None:
    folder, found = grid
    (top,) = found["top"]
    assert top["trial"] == 0
    assert list(top["seeds"]) == ["1", "2"]
    assert top["mean"] == pytest.approx(sum(top["seeds"].values()) / 2)
    assert found["best"]["chosen_by"] == "mean over other seeds"
    assert (folder / SEARCH / "top" / "0-seed-2" / "recipe.toml").is_file()


def test_the_winner_is_a_ready_recipe(
    grid: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = grid
    monkeypatch.chdir(folder)
    best = recipe.load(Path(found["best"]["recipe"]), (), Recipe)
    assert best.tasks["people"].learning_rate == 5e-3
    assert best.tasks["people"].test == Path("test.conll")
    assert best.output == Path("run")
    assert json.loads((SEARCH / "search.json").read_text()) == found


def test_the_same_command_again_repeats_nothing(
    grid: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, found = grid
    monkeypatch.chdir(folder)
    before = (SEARCH / "trials/0/log.txt").stat().st_mtime_ns
    assert searched(folder / "recipe.toml", ["tasks.people.epochs=16"]) == found
    assert (SEARCH / "trials/0/log.txt").stat().st_mtime_ns == before
    shown = capsys.readouterr().out
    assert "best: trial 0, f1" in shown
    assert "over 2 other seeds" in shown
    with pytest.raises(DataError, match=r"tasks\.people\.epochs: 16 -> 15"):
        searched(folder / "recipe.toml", ["tasks.people.epochs=15"])


RANDOM = f"""
[search]
target = "people"
sampler = "tpe"
pruner = "none"
trials = 2
startup_trials = 1
top = 0
[search.space]
"{RATE}" = {{ low = 1e-4, high = 5e-3, log = true }}
"""
OUTCOME = ("number", "state", "values", "score", "evaluations", "error")


def outcome(found: dict[str, Any]) -> list[list[Any]]:
    return [[trial[key] for key in OUTCOME] for trial in found["trials"]]


@pytest.mark.slow
def test_a_search_that_was_stopped_and_killed_ends_the_same(
    workplace: Path, tmp_path_factory: pytest.TempPathFactory, root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = add_search(workplace, RANDOM)
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(workplace, other, dirs_exist_ok=True)
    overrides = ["tasks.people.epochs=12"]
    command = [sys.executable, "-m", "finetune", "search", "recipe.toml", *overrides]
    metrics = other / SEARCH / "trials/0/finetune/people/seed-0/metrics.jsonl"

    def interrupted(number: signal.Signals, evaluations: int) -> int:
        with (other / "driver.log").open("ab") as log:
            started = subprocess.Popen(
                command, cwd=other, env=variables(root), stdout=log, stderr=log
            )
        try:
            wait_for(
                lambda: metrics.is_file() and metrics.read_text().count("eval/f1") >= evaluations,
                "evaluations",
            )
            started.send_signal(number)
            return started.wait(timeout=120)
        finally:
            started.kill()

    assert interrupted(signal.SIGTERM, 1) == 75
    assert "SIGTERM received" in (other / SEARCH / "trials/0/log.txt").read_text()
    assert not (other / SEARCH / "trials/0/process.json").exists()
    done = metrics.read_text().count("eval/f1")
    assert interrupted(signal.SIGKILL, done + 1) == -signal.SIGKILL
    monkeypatch.chdir(other)
    continued = searched(path, overrides)
    monkeypatch.chdir(workplace)
    assert outcome(continued) == outcome(searched(path, overrides))
    assert [trial["state"] for trial in continued["trials"]] == ["done", "done"]


def test_trials_run_beside_each_other_and_a_stop_reaches_all(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("finetune.search.places.num_cores", lambda: 2)
    path = add_search(workplace, RANDOM)
    trials = [SEARCH / f"trials/{number}/finetune/people/seed-0" for number in (0, 1)]
    # Both train at once, and only then the stop comes.
    monkeypatch.setattr(
        signals, "stop_requested",
        lambda: all((trial / "metrics.jsonl").is_file() for trial in trials),
    )  # fmt: skip
    with pytest.raises(StopRequested, match="run the same command again to continue"):
        searched(path, ["search.parallel=2", "tasks.people.epochs=60"])
    for number in (0, 1):
        folder = SEARCH / "trials" / str(number)
        assert "threads_per_rank = 1" in (folder / "recipe.toml").read_text()
        assert "SIGTERM received" in (folder / "log.txt").read_text()


FOLDS = f"""
[search]
target = "people"
sampler = "grid"
pruner = "none"
folds = 2
top = 0
[search.space]
"{RATE}" = {{ values = [5e-3] }}
"""


def test_a_trial_may_be_cross_validated(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    found = searched(add_search(workplace, FOLDS))
    (trial,) = found["trials"]
    report = json.loads(
        (SEARCH / "trials/0/finetune/people/folds/crossvalidation.json").read_text()
    )
    assert len(report["folds"]) == 2
    assert trial["score"] == report["mean"]["f1"]
    assert trial["evaluations"] == 2


def test_a_trial_may_have_several_ranks(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("finetune.search.places.num_cores", lambda: 2)
    path = add_search(workplace, FOLDS.replace("folds = 2\n", ""))
    (trial,) = searched(path, ["launch.ranks=2"])["trials"]
    assert trial["state"] == "done"
    manifest = SEARCH / "trials/0/finetune/people/manifest.json"
    assert json.loads(manifest.read_text())["world_size"] == 2


TOGETHER = """
[multitask.both]
encoder = "encoder"
weights = { people = 1.0, reviews = 0.5 }
epochs = 2
batch_size = 8
micro_batch_size = 4
learning_rate = 5e-3
[search]
target = "both"
sampler = "grid"
pruner = "none"
top = 0
[search.space]
"multitask.both.weights.reviews" = { values = [0.1, 1.0] }
"""


def test_weights_of_several_tasks_are_cross_validated(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    path = add_search(workplace, TOGETHER)
    found = searched(path, ["search.folds=2", "multitask.both.epochs=1"])
    for trial, weight in zip(found["trials"], (0.1, 1.0), strict=True):
        folder = SEARCH.with_name("both") / f"trials/{trial['number']}"
        report = json.loads((folder / "finetune/both/folds/crossvalidation.json").read_text())
        assert (report["task"], report["together_with"]) == ("people", ["reviews"])
        assert trial["score"] == report["mean"]["f1"]
        assert trial["values"] == {"multitask.both.weights.reviews": weight}
        assert not (folder / "finetune/people").exists()  # nothing else is trained


def test_weights_of_several_tasks_are_searched(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    found = searched(add_search(workplace, TOGETHER))
    assert [trial["state"] for trial in found["trials"]] == ["done", "done"]
    assert [trial["evaluations"] for trial in found["trials"]] == [2, 2]
    best = recipe.load(Path(found["best"]["recipe"]), (), Recipe)
    chosen = found["best"]["values"]["multitask.both.weights.reviews"]
    assert best.multitask["both"].weights == {"people": 1.0, "reviews": chosen}


def test_a_search_that_only_fails_ends(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("finetune.search.trials.FAILED_IN_A_ROW", 2)
    path = add_search(workplace, RANDOM)
    (workplace / "train.conll").write_text("no columns here\n\n")
    with pytest.raises(DataError, match=r"2 trials in a row failed; the last one, .*trials/1"):
        searched(path)


@pytest.mark.parametrize(
    ("override", "fault", "message"),
    [
        ('tasks.people.train="absent.conll"', DataError, "waits for absent.conll"),
        ("search.parallel=999", RecipeError, r"search\.parallel = 999"),
        ("search.space={}", RecipeError, r"\[search.space\] is empty"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, override: str,
    fault: type[Exception], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(workplace)
    checked = recipe.load(add_search(workplace, TOGETHER), (override,), Recipe)
    with pytest.raises(fault, match=message):
        driver.check(checked, None)
    assert not (workplace / "run").exists()


def test_the_most_values_a_trial_reports(workplace: Path) -> None:
    path = add_search(workplace, RANDOM)
    for overrides, wanted in (
        ((), 3),
        (('search.space."tasks.people.epochs"={low=2, high=7}',), 7),
        (("tasks.people.evaluations_per_epoch=2",), 6),
        (("search.folds=4",), 4),
    ):
        checked = recipe.load(path, overrides, Recipe)
        assert driver.num_evaluations(checked, "people") == wanted
