"""The status tells done, running, to do, failed and lost apart."""

import os
import time
from pathlib import Path

import psutil
import pytest

from launch import journal, status, summary
from launch.journal import Entry, Journal
from tests.launch import runs


def states(output: Path) -> list[str]:
    notes = journal.read(output)
    return [
        row.state
        for stage in ("data_prep", "pretrain", "finetune")
        for row in status.stage_rows(output, stage, notes)
    ]


def note(output: Path, stage: str, entry: Entry) -> None:
    journal.write(output, Journal("small.toml", [], stages={stage: entry}))


def test_stages_become_done_one_after_the_other(tmp_path: Path) -> None:
    assert states(runs.started(tmp_path)) == ["to do", "to do", "to do"]
    assert states(runs.prepared(tmp_path)) == ["done", "to do", "to do"]
    assert states(runs.pretrained(tmp_path)) == ["done", "done", "to do"]
    assert states(runs.finished(tmp_path)) == ["done", "done", "done"]


def test_the_newest_training_run_of_a_task_is_shown(tmp_path: Path) -> None:
    output = runs.finished(tmp_path)
    folder = output / "finetune" / "places"
    (folder / "manifest.json").unlink()
    os.utime(folder / "seed-2" / "metrics.jsonl", (2e9, 2e9))
    row = status.stage_rows(output, "finetune", None)[0]
    assert (row.name, row.state, row.score) == ("finetune places", "started", "f1 0.575")
    os.utime(folder / "control" / "seed-1" / "metrics.jsonl", (3e9, 3e9))
    row = status.stage_rows(output, "finetune", None)[0]
    assert (row.name, row.score) == ("finetune places (control)", "f1 0.375")


def test_running_stage_shows_step_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.metrics(runs.prepared(tmp_path))
    note(tmp_path, "pretrain", Entry("running", os.getpid(), time.time()))
    runs.write(
        tmp_path / "logs" / "pretrain.log",
        "step 10/80  loss  5.0  eta 9m\nstep 20/80  loss  3.500  lr 1e-3  eta 3m12s\n[noise]\n",
    )
    assert states(tmp_path) == ["done", "running", "to do"]
    status.show(tmp_path)
    shown = capsys.readouterr().out
    assert "20/80" in shown
    assert "3m12s" in shown
    assert '"loss/train": 3.5' in shown


def test_failed_stage_names_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note(runs.prepared(tmp_path), "pretrain", Entry("failed", 1, 2.0, 3.0, 4))
    assert states(tmp_path) == ["done", "failed", "to do"]
    status.show(tmp_path)
    assert "failed with exit code 4" in capsys.readouterr().out


def test_a_process_that_is_gone_is_lost(tmp_path: Path) -> None:
    gone = next(pid for pid in range(300_000, 400_000) if not psutil.pid_exists(pid))
    note(runs.prepared(tmp_path), "pretrain", Entry("running", gone, time.time()))
    assert states(tmp_path)[1] == "lost"


def test_a_later_process_with_the_same_id_is_not_believed(tmp_path: Path) -> None:
    note(runs.prepared(tmp_path), "pretrain", Entry("running", os.getpid(), 1.0))
    assert states(tmp_path)[1] == "lost"


def test_another_machine_is_believed(tmp_path: Path) -> None:
    runs.prepared(tmp_path)
    entry = Entry("running", 999_999, 1.0)
    journal.write(tmp_path, Journal("r.toml", [], "elsewhere", {"pretrain": entry}))
    assert states(tmp_path)[1] == "running"


def test_summary_says_what_came_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary.print_summary(runs.finished(tmp_path), ["pretrain", "finetune"], 61.0)
    shown = capsys.readouterr().out
    assert "validation loss 6.250 -> 3.750 in 20 steps" in shown
    assert "places: test  f1 0.750, without pretraining 0.500, lookup 0.125" in shown
    assert f"tensorboard --logdir {tmp_path}" in shown
    assert str(tmp_path / "report.html") in shown
