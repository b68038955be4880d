"""`textmill run` with the real stages: what it runs, what it skips, what it returns."""

import shutil
from pathlib import Path

import pytest

from tests.launch.tiny import textmill


@pytest.mark.slow
@pytest.mark.distributed
def test_whole_chain_then_nothing_then_only_what_is_missing(recipe: Path) -> None:
    code, shown = textmill("run", recipe)
    assert code == 0, shown
    for line in ("data_prep: starting", "pretrain: starting, 2 ranks", "finetune: starting"):
        assert line in shown
    assert "tensorboard --logdir" in shown
    assert "[INFO]" not in shown
    assert "Warning" not in shown
    run = recipe.parent / "run"
    assert (run / "report.html").is_file()
    assert "mood" in textmill("status", run)[1]

    code, shown = textmill("run", recipe)
    assert code == 0, shown
    for stage in ("data_prep", "pretrain", "finetune"):
        assert f"{stage}: up to date" in shown
    assert "starting" not in shown

    shutil.rmtree(run / "finetune")
    code, shown = textmill("run", recipe)
    assert code == 0, shown
    assert "pretrain: up to date" in shown
    assert "finetune: starting" in shown

    code, shown = textmill("run", recipe, "tasks.mood.epochs=2", "launch.ranks=1")
    assert code == 3  # never over the checkpoints of another recipe
    assert "was made with another task" in shown


@pytest.mark.slow
def test_code_of_the_failing_stage_is_returned(recipe: Path) -> None:
    with (recipe.parent / "a.jsonl").open("w") as file:
        file.write('{"words": "no text here"}\n')
    code, shown = textmill("run", recipe)
    assert code == 3
    assert shown.count("DataError") == 1
    assert "data_prep ended with exit code 3" in shown
    assert "failed" in textmill("status", recipe.parent / "run")[1]
