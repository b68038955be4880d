"""Studies as Optuna keeps them: drawing, continuing, refusing, sharing, showing."""

import json
import math
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from finetune.search.study import JOURNAL, Study
from finetune.search.table import Range, Search
from runtime.errors import DataError
from runtime.starting import free_port
from tests.ranks import wait_for

SPACE = {
    "tasks.people.learning_rate": Range(low=1e-5, high=1e-3, log=True),
    "tasks.people.epochs": Range(low=1, high=9, step=3),
    "optimizer.name": Range(values=("adamw", "muon")),
}
IDENTITY = {"metric": "f1", "search": {"space": {"a": {"low": 1, "high": 2}}}, "tasks": {"x": 1}}


def table(**changes: Any) -> Search:
    found = {"space": SPACE, "sampler": "random", "pruner": "none", "trials": 4}
    return Search.model_validate(found | changes)


def opened(folder: Path, given: Search | None = None, **identity: Any) -> Study:
    return Study(folder, given or table(), "people", IDENTITY | identity, 3, 7)


def drawn(study: Study) -> dict[str, Any]:
    trial = study.ask()
    assert trial is not None
    return dict(trial.params)


def scored(values: dict[str, Any]) -> float:
    """Best near 2e-4."""
    return -abs(math.log10(values["tasks.people.learning_rate"] / 2e-4))


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_values_are_in_the_space_and_do_not_depend_on_restarts(
    tmp_path: Path, sampler: str
) -> None:
    search = table(sampler=sampler, startup_trials=2)
    found: list[list[dict[str, Any]]] = []
    for restarts in (False, True):
        folder = tmp_path / str(restarts)
        folder.mkdir()
        study = opened(folder, search)
        values = []
        for _ in range(4):
            if restarts:
                study = opened(folder, search)
            trial = study.ask()
            assert trial is not None
            values.append(dict(trial.params))
            study.complete(trial, scored(trial.params), 1.0)
        found.append(values)
    assert found[0] == found[1]
    assert len({json.dumps(values) for values in found[0]}) == 4
    for values in found[0]:
        assert 1e-5 <= values["tasks.people.learning_rate"] <= 1e-3
        assert values["tasks.people.epochs"] in (1, 4, 7)
        assert values["optimizer.name"] in ("adamw", "muon")


def test_a_grid_is_tried_once_each(tmp_path: Path) -> None:
    space = {"a.x": Range(low=0.1, high=0.3, step=0.1), "a.y": Range(values=(True, "n"))}
    study = opened(tmp_path, table(space=space, sampler="grid", trials=1))
    found = [drawn(study), drawn(study)]
    study = opened(tmp_path, table(space=space, sampler="grid", trials=1))
    found += [drawn(study) for _ in range(4)]
    assert [(each["a.x"], each["a.y"]) for each in found] == [
        (0.1, True), (0.1, "n"), (0.2, True), (0.2, "n"), (0.3, True), (0.3, "n"),
    ]  # fmt: skip
    assert not study.wants_more()
    assert study.ask() is None


def test_failed_trials_are_replaced_and_those_that_run_counted(tmp_path: Path) -> None:
    study = opened(tmp_path, table(trials=2))
    first, second = study.ask(), study.ask()
    assert first is not None
    assert second is not None
    assert study.ask() is None
    study.fail(first, "DataError: no rows", 2.0)
    assert study.trials()[0].user_attrs["error"] == "DataError: no rows"
    third = study.ask()
    assert third is not None
    study.complete(second, 0.5, 1.0)
    study.complete(third, 0.75, 1.0)
    assert not study.wants_more()
    assert [trial.number for trial in study.best(5)] == [2, 1]


def test_a_study_of_another_space_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    opened(tmp_path)
    opened(tmp_path, table(trials=9, sampler="tpe", parallel=2))  # how it is searched may change
    with pytest.raises(DataError) as caught:
        opened(
            tmp_path,
            search={"space": {"a": {"low": 1, "high": 3}, "b": {"values": [1]}}},
            tasks={"x": 2},
        )
    told = str(caught.value)
    assert f"{tmp_path} holds a study of another space or of other settings" in told
    assert "search.space.a.high: 2 -> 3" in told
    assert "search.space.b: (not set) -> " in told
    assert "tasks.x: 1 -> 2" in told
    assert f"delete {tmp_path}" in told


def test_values_are_reported_once_and_the_worse_half_given_up(tmp_path: Path) -> None:
    study = opened(tmp_path, table(pruner="median", startup_trials=1, trials=9))
    first, second, third = study.ask(), study.ask(), study.ask()
    assert first is not None
    assert second is not None
    assert third is not None
    assert not study.report(first, [0.1])
    assert not study.report(first, [0.1, 0.5])
    assert not study.report(first, [0.1, 0.5, 0.7])
    study.complete(first, 0.75, 1.0)
    assert study.trials()[0].intermediate_values == {1: 0.1, 2: 0.5, 3: 0.7}
    assert not study.report(second, [0.2])
    assert study.report(second, [0.2, 0.4, 0.9])  # at the second value
    given_up = study.give_up(second, 1.0)
    assert (given_up.state, given_up.value) == (TrialState.PRUNED, 0.4)
    again = opened(tmp_path, table(pruner="median", startup_trials=1, trials=9))
    assert again.trials()[1].state is TrialState.PRUNED


def test_hyperband_gives_up_before_the_end(tmp_path: Path) -> None:
    search = table(pruner="hyperband", trials=30)
    study = Study(tmp_path, search, "people", IDENTITY, 9, 7)
    given_up = 0
    for number in range(20):
        trial = study.ask()
        assert trial is not None
        values = [number / 100 if number % 2 else 0.9] * 9
        ends = [study.report(trial, values[:n]) for n in range(1, 10)]
        if any(ends):
            given_up += 1
            study.give_up(trial, 0.0)
        else:
            study.complete(trial, values[-1], 0.0)
    assert 0 < given_up < 20


DIES = """
import sys
from pathlib import Path
from tests.finetune.search.test_study import opened
study = opened(Path(sys.argv[1]))
trial = study.ask()
trial.report(0.25, 1)
study.spend(trial, 3.0)
study.optuna.ask()  # dies while it draws
print(trial.params)
"""


def test_trials_of_a_dead_driver_are_taken_over(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES, tmp_path], cwd=root, capture_output=True, text=True, check=True
    )
    study = opened(tmp_path)
    assert study.counts()[TrialState.RUNNING] == 2
    assert study.others_run()
    trial = study.adopt()
    assert trial is not None
    assert str(trial.params) == done.stdout.strip()
    assert study.adopt() is None
    assert not study.others_run()
    assert study.counts()[TrialState.FAIL] == 1  # the one without values
    assert not study.report(trial, [0.25, 0.5])
    study.complete(trial, 0.5, 2.0)
    finished = study.trials()[0]
    assert finished.intermediate_values == {1: 0.25, 2: 0.5}
    assert finished.user_attrs["seconds"] == 5.0


def test_trials_of_a_living_driver_are_left_to_it(tmp_path: Path) -> None:
    study, other = opened(tmp_path), opened(tmp_path)
    other.driver.name = "elsewhere:17:100"
    other.driver.file_of(other.driver.name).touch()
    assert other.ask() is not None
    assert study.adopt() is None
    assert study.others_run()
    assert not other.others_run()


def test_importance_needs_scores_that_differ(tmp_path: Path) -> None:
    study = opened(tmp_path, table(trials=40))
    for _ in range(3):
        trial = study.ask()
        assert trial is not None
        study.complete(trial, 0.5, 0.0)
    assert study.importance() == {}
    for _ in range(27):
        trial = study.ask()
        assert trial is not None
        study.complete(trial, scored(trial.params), 0.0)
    found = study.importance()
    assert max(found, key=lambda key: found[key]) == "tasks.people.learning_rate"
    assert sum(found.values()) == pytest.approx(1.0)


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def answers(url: str) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            return bool(fetched(url))
        except OSError:
            return False

    return asked


def test_the_journal_opens_in_optuna_dashboard(tmp_path: Path) -> None:
    study = opened(tmp_path)
    trial = study.ask()
    assert trial is not None
    study.report(trial, [0.25, 0.5])
    study.complete(trial, 0.5, 1.0)
    port = free_port()
    server = subprocess.Popen(
        [
            Path(sys.executable).with_name("optuna-dashboard"),
            *("--host", "127.0.0.1", "--port", str(port), tmp_path / JOURNAL),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}/api/studies"
        wait_for(answers(address), "the dashboard")
        (summary,) = fetched(address)["study_summaries"]
        assert summary["study_name"] == "people"
        detail = fetched(f"{address}/{summary['study_id']}?after=0")
        (shown,) = detail["trials"]
        assert shown["state"] == "Complete"
        assert shown["values"] == [0.5]
        assert {param["name"] for param in shown["params"]} == set(SPACE)
        assert [value["value"] for value in shown["intermediate_values"]] == [0.25, 0.5]
    finally:
        server.terminate()
        server.wait(timeout=30)
