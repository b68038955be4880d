"""What is read of trials, from files written by hand."""

import json
from pathlib import Path

import pytest

from finetune.search import progress
from finetune.search.progress import Watched

ALONE = Watched("people", "people", False, "f1", None)
BOTH = Watched("both", "people", True, "f1", None)
FOLDS = Watched("people", "people", False, "f1", 3)


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_evaluations_in_order_without_a_torn_line(tmp_path: Path) -> None:
    assert progress.values(tmp_path, ALONE, 5) == []
    lines = [
        '{"step": 0, "eval/f1": 0.125}\n',
        '{"step": 4, "loss/train": 2.0}\n',
        '{"step": 8, "eval/f1": 0.25, "eval/f1_macro": 0.9}\n',
        '{"step": 16, "eval/f1": "nan"}\n',
        '{"step": 24, "eval/f1": 0.5',
    ]
    put(tmp_path / "finetune/people/seed-5/metrics.jsonl", "".join(lines))
    found = progress.values(tmp_path, ALONE, 5)
    assert found[0] == 0.25
    assert found[1] != found[1]
    assert len(found) == 2
    assert progress.values(tmp_path, ALONE, 6) == []


def test_of_several_tasks_the_first_is_read(tmp_path: Path) -> None:
    line = '{"step": 8, "eval/people/f1": 0.25, "eval/reviews/f1": 0.75}\n'
    put(tmp_path / "finetune/both/seed-0/metrics.jsonl", line)
    assert progress.values(tmp_path, BOTH, 0) == [0.25]


def test_a_trial_has_a_score_once_it_is_done(tmp_path: Path) -> None:
    report = {"valid": {"metrics": {"f1": 0.5, "f1_macro": 0.25}}}
    put(tmp_path / "finetune/people/report.json", report)
    assert progress.score(tmp_path, ALONE) is None
    put(tmp_path / "finetune/people/manifest.json", {})
    assert progress.score(tmp_path, ALONE) == 0.5
    put(tmp_path / "finetune/both/people/report.json", report)
    put(tmp_path / "finetune/both/manifest.json", {})
    assert progress.score(tmp_path, BOTH) == 0.5


def test_folds(tmp_path: Path) -> None:
    folder = tmp_path / "finetune/people/folds"
    put(folder / "fold-1/score.json", {"f1": 0.5})
    put(folder / "fold-2/score.json", {"f1": 0.25})
    assert progress.values(tmp_path, FOLDS, 0) == [0.5, 0.375]
    assert progress.score(tmp_path, FOLDS) is None
    put(folder / "crossvalidation.json", {"mean": {"f1": 0.4}, "metrics": {"f1": 0.45}})
    put(folder / "manifest.json", {})
    assert progress.score(tmp_path, FOLDS) == 0.4


@pytest.mark.parametrize("watched", [ALONE, BOTH, FOLDS])
def test_weights_go_and_measurements_stay(tmp_path: Path, watched: Watched) -> None:
    own = progress.stage_folder(tmp_path, watched)
    put(own / "seed-0/checkpoints/step-1/weights", "x")
    put(own / "people/export/weights", "x")
    put(own / "seed-0/metrics.jsonl", "")
    put(own / "report.json", {})
    progress.tidy(tmp_path, watched)
    kept = {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()}
    assert kept == {"seed-0/metrics.jsonl", "report.json"}
