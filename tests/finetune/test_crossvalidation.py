"""Real folds on two ranks: every row predicted once, what is done kept, other settings refused."""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from finetune import __main__, crossvalidation, folds
from finetune.config import Recipe
from finetune.crossvalidation import Fold, Result
from finetune.evaluation import Scored
from finetune.prepare import prepare
from finetune.task import Scores
from runtime import recipe
from runtime.errors import DataError
from tests.ranks import Finished, run_ranks

OVERRIDES = ("tasks.reviews.epochs=2", "tasks.reviews.evaluations_per_epoch=1")
OPERATION = 'tasks.reviews.augment=[{kind="eda", synonym_rate=0.0, insertion_rate=0.0}]'


def crossvalidated(folder: Path, *more: str, world: int = 2) -> Finished:
    arguments = ["crossvalidate", "recipe.toml", *OVERRIDES, "--task", "reviews", "--folds", "2"]
    return run_ranks(["-m", "finetune", *arguments, *more], world, folder)


def succeeded(finished: Finished) -> Finished:
    assert set(finished.exit_codes) == {0}, finished.text
    return finished


def shorten(folder: Path, rows: int = 20) -> None:
    for split in ("train", "valid"):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:rows]))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def task_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    found = recipe.load(Path("recipe.toml"), OVERRIDES, Recipe)
    return found, prepare(found, "reviews")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.finetune.conftest import write_encoder, write_workplace

    folder = tmp_path_factory.mktemp("folds")
    write_workplace(folder, write_encoder(folder / "encoder"))
    shorten(folder)
    done = succeeded(crossvalidated(folder))
    assert "over all 20 training rows, out of fold" in done.outputs[0]
    return folder


@pytest.mark.distributed
def test_every_row_is_predicted_once_out_of_fold(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, prepared = task_of(finished, monkeypatch)
    parts = folds.of(prepared.plugin, prepared.data["train"], 2, seed=0)
    rows = read_lines(finished / "run/finetune/reviews/folds/predictions.jsonl")
    assert [row["row"] for row in rows] == list(range(20))
    assert [row["fold"] for row in rows] == [1 if i in parts[0] else 2 for i in range(20)]
    assert [row["gold"] for row in rows] == [row.label for row in prepared.data["train"].rows]


@pytest.mark.distributed
def test_the_report_says_what_the_predictions_say(finished: Path) -> None:
    folder = finished / "run/finetune/reviews/folds"
    report, rows = read(folder / "crossvalidation.json"), read_lines(folder / "predictions.jsonl")
    right = [row["gold"] == row["predicted"]["label"] for row in rows]
    assert report["metrics"]["accuracy"] == pytest.approx(statistics.fmean(right))
    bounds = report["intervals"]["accuracy"]
    assert bounds["low"] <= report["metrics"]["accuracy"] <= bounds["high"]
    by_fold = [
        statistics.fmean(r for r, row in zip(right, rows, strict=True) if row["fold"] == fold)
        for fold in (1, 2)
    ]
    assert [fold["metrics"]["accuracy"] for fold in report["folds"]] == pytest.approx(by_fold)
    assert report["mean"]["accuracy"] == pytest.approx(sum(by_fold) / 2)
    assert report["deviation"]["accuracy"] == pytest.approx(statistics.stdev(by_fold))
    assert [(fold["rows_trained"], fold["rows"]) for fold in report["folds"]] == [(10, 10)] * 2
    for number in (1, 2):
        score = read(folder / f"fold-{number}" / "score.json")
        assert score["accuracy"] == pytest.approx(by_fold[number - 1])
        assert not (folder / f"fold-{number}" / "checkpoints").exists()
        assert (folder / f"fold-{number}" / "metrics.jsonl").is_file()


@pytest.mark.distributed
def test_what_is_done_is_not_repeated(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, symlinks=True)
    folder = tmp_path / "run/finetune/reviews/folds"
    done = succeeded(crossvalidated(tmp_path, world=1))
    assert "nothing to do" in done.outputs[0]
    before = (folder / "predictions.jsonl").read_bytes(), read(folder / "crossvalidation.json")
    first = (folder / "fold-1" / "manifest.json").stat().st_mtime_ns
    for gone in ("manifest.json", "predictions.jsonl", "crossvalidation.json"):
        (folder / gone).unlink()
    shutil.rmtree(folder / "fold-2")  # as if it had been stopped after the first fold
    succeeded(crossvalidated(tmp_path))
    assert (folder / "fold-1" / "manifest.json").stat().st_mtime_ns == first
    after = read(folder / "crossvalidation.json")
    for report in (before[1], after):
        for fold in report["folds"]:
            del fold["training"]["seconds"]
    assert after == before[1]
    assert (folder / "predictions.jsonl").read_bytes() == before[0]


@pytest.mark.distributed
def test_folds_of_other_settings_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, symlinks=True)
    refused = crossvalidated(tmp_path, "tasks.reviews.epochs=3", world=1)
    assert refused.exit_codes == [3]
    assert "fold-1 was trained on other rows or settings (there -> this run)" in refused.text
    assert "task.epochs: 2 -> 3" in refused.text


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.usefixtures("wordnet")
def test_a_fold_is_trained_with_the_operations_that_help_on_its_rows(
    finished: Path, tmp_path: Path
) -> None:
    for name in ("recipe.toml", "train.jsonl", "valid.jsonl", "test.jsonl"):
        shutil.copy(finished / name, tmp_path)
    for split in ("train", "valid", "test"):
        shutil.copy(finished / f"{split}.conll", tmp_path)
    shutil.copytree(finished / "encoder", tmp_path / "encoder")
    more = [OPERATION, "augment.auto=true", "augment.folds=2", "augment.max_p=1.0"]
    succeeded(crossvalidated(tmp_path, *more))
    folder = tmp_path / "run/finetune/reviews/folds"
    report = read(folder / "crossvalidation.json")
    for number, fold in enumerate(report["folds"], start=1):
        table = fold["augmentation"]["what_each_brought"]
        assert [row["operation"] for row in table] == ["without", "eda"]
        assert table[1]["gain"] == pytest.approx(table[1]["score"] - table[0]["score"])
        assert fold["rows_trained"] == 10 + fold["augmentation"]["rows_added"]
        inner = folder / f"fold-{number}" / "augment"
        found = sorted(str(path.parent.relative_to(inner)) for path in inner.rglob("manifest.json"))
        assert found[-2:] == ["without/fold-1", "without/fold-2"]
    manifests = sorted(folder.rglob("fold-*/manifest.json"))
    times = [path.stat().st_mtime_ns for path in manifests]
    (folder / "manifest.json").unlink()
    succeeded(crossvalidated(tmp_path, *more))
    assert [path.stat().st_mtime_ns for path in manifests] == times


def scored(*values: float) -> Scored:
    names = ("accuracy", "auc")
    return Scored(Scores(dict(zip(names, values, strict=False)), {}), 0.5, [])


def test_mean_and_deviation_by_hand() -> None:
    made = [Fold([0], 1, scored(*values), {}, {}) for values in ((0.5, 1.0), (1.0, 0.9), (0.6,))]
    result = Result("accuracy", made, scored(0.75))
    assert result.score == 0.75
    assert result.mean == pytest.approx({"accuracy": 0.7})  # not every fold has an area
    assert result.deviation["accuracy"] == pytest.approx((0.07) ** 0.5)  # (.04 + .09 + .01) / 2


def test_a_dry_run_names_the_folder(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    assert __main__.main(["crossvalidate", "recipe.toml", "--folds", "3", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "finetune.people.folds: to do\n  folder  run/finetune/people/folds" in shown
    assert "3 folds of the training rows" in shown
    assert "finetune.reviews.folds: to do" in shown
    assert not (workplace / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--folds", "1"], 2, "--folds 1: cross-validation needs at least 2"),
        (["--task", "poeple"], 2, "--task poeple: the tasks of the recipe are: people, reviews"),
        (['tasks.people.train="none"'], 3, "finetune.people.folds cannot start: waits for none"),
    ],
)
def test_bad_input(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(workplace)
    assert __main__.main(["crossvalidate", "recipe.toml", *arguments]) == code
    assert message in capsys.readouterr().err


def test_more_folds_than_rows(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, prepared = task_of(workplace, monkeypatch)
    with pytest.raises(DataError, match=r"train\.jsonl: 64 documents are too few for 65 folds"):
        crossvalidation.run(found, prepared, workplace / "folds", 65, 0)
