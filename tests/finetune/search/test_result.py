"""What is chosen, written and shown, from studies without training."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from finetune.config import Recipe
from finetune.search import progress, repeats, result
from finetune.search.drivers import Driver
from finetune.search.repeats import Candidate, Repeats
from finetune.search.running import Setting
from finetune.search.study import Study
from runtime import recipe
from runtime.errors import DataError

RATE = "tasks.people.learning_rate"
RecipeOf = Callable[..., Recipe]


@pytest.fixture
def setting(recipe_of: RecipeOf, tmp_path: Path) -> Setting:
    given = recipe_of(
        f'search.space."{RATE}"={{values=[0.001, 0.002, 0.003]}}',
        'search.sampler="grid"',
        'search.pruner="none"',
        "search.top=2",
        "search.top_seeds=2",
    )
    folder = tmp_path / "search"
    folder.mkdir()
    return Setting(given, "people", folder, progress.watched_of(given, "people"), [])


@pytest.fixture
def study(setting: Setting) -> Study:
    return Study(setting.folder, setting.recipe.search, "people", {"metric": "f1"}, 3, 0)


def ended(study: Study, *scores: float | None) -> None:
    for score in scores:
        trial = study.ask()
        assert trial is not None
        if score is None:
            study.fail(trial, "DataError: no rows", 65.0)
        else:
            study.complete(trial, score, 65.0)


def test_the_best_mean_over_other_seeds_is_chosen() -> None:
    lucky = Candidate(4, {RATE: 0.001}, 0.9, {1: 0.5, 2: 0.7})
    steady = Candidate(2, {RATE: 0.002}, 0.8, {1: 0.7, 2: 0.7})
    broken = Candidate(3, {RATE: 0.003}, 0.85, {}, {1: "DataError"})
    assert lucky.mean == pytest.approx(0.6)
    assert lucky.deviation == pytest.approx(0.02**0.5)
    assert broken.mean is None
    assert result.chosen([lucky, broken, steady]) is steady
    assert result.chosen([broken, Candidate(1, {}, 0.1)]) is broken


def test_the_result_is_written_and_shown(setting: Setting, study: Study) -> None:
    ended(study, 0.5, None, 0.75)
    candidates = result.candidates_of(study, 2)
    assert [(each.number, each.score) for each in candidates] == [(2, 0.75), (0, 0.5)]
    candidates[0].scores = {4: 0.25, 5: 0.5}
    candidates[1].scores = {4: 0.5, 5: 0.5}
    found = result.write(setting, study, candidates)
    assert found == json.loads((setting.folder / "search.json").read_text())
    assert found["best"]["trial"] == 0
    assert found["best"]["mean"] == 0.5
    assert found["trials"][1] == {
        "number": 1, "state": "failed", "values": {RATE: 0.002}, "score": None, "evaluations": 0,
        "seconds": 65.0, "error": "DataError: no rows",
    }  # fmt: skip
    best = recipe.load(setting.folder / "best.toml", (), Recipe)
    assert best.tasks["people"].learning_rate == 0.001
    assert best.export.onnx
    shown = StringIO()
    result.show(found, setting.folder, Console(file=shown, width=120))
    lines = shown.getvalue().splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [
        ["2", "learning_rate 0.003", "0.7500", "0.3750 ± 0.1768", "1m5s", "done"],
        ["0", "learning_rate 0.001", "0.5000", "0.5000 ± 0.0000", "1m5s", "done"],
        ["1", "learning_rate 0.002", "", "", "1m5s", "failed: DataError: no rows"],
    ]
    assert "best: trial 0, f1 0.5000 ± 0.0000 over 2 other seeds: learning_rate 0.001" in lines


def test_without_a_completed_trial_there_is_no_result(study: Study) -> None:
    ended(study, None)
    with pytest.raises(DataError, match=r"none of 3 trials .*last error: DataError: no rows"):
        result.candidates_of(study, 1)


def test_drivers_divide_what_is_run_again(setting: Setting) -> None:
    candidates = [Candidate(2, {RATE: 0.003}, 0.75)]
    ours, theirs = Driver(setting.folder), Driver(setting.folder)
    theirs.name = "elsewhere:17:100"
    theirs.file_of(theirs.name).touch()
    mine = Repeats(setting, ours, candidates)
    other = Repeats(setting, theirs, [Candidate(2, {RATE: 0.003}, 0.75)])
    first, second = mine.next(), other.next()
    assert first is not None
    assert second is not None
    assert (first.seed, second.seed) == (4, 5)  # the trials' is 3
    assert mine.next() is None
    assert not mine.is_over()
    stage = progress.stage_folder(second.folder, setting.watched)
    stage.mkdir(parents=True)
    (stage / "report.json").write_text('{"valid": {"metrics": {"f1": 0.5}}}')
    (stage / "manifest.json").write_text("{}")
    mine.done(first, 0.25, 1.0)
    assert mine.is_over()
    assert candidates[0].scores == {4: 0.25, 5: 0.5}


def test_what_a_dead_driver_had_taken_is_free(setting: Setting) -> None:
    ours = Driver(setting.folder)
    folder = setting.folder / "top" / "2-seed-4"
    folder.mkdir(parents=True)
    (folder / repeats.TAKEN_BY).write_text("elsewhere:17:100")
    found = Repeats(setting, ours, [Candidate(2, {RATE: 0.003}, 0.75)]).next()
    assert found is not None
    assert found.folder == folder
