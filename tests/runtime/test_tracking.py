"""What TensorBoard, metrics.jsonl and the console show, above all after a resume."""

import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from runtime import tracking
from runtime.tracking import Tracker


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The points that TensorBoard's slow loader (--load_fast=false) draws: it purges, or not."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [
        (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
        for event in accumulator.Tensors(tag)
    ]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / tracking.METRICS).read_text().splitlines()]


def run(folder: Path, start_step: int, last_step: int, loss: float) -> None:
    """Log steps after `start_step` up to `last_step`, as a run resumed there would."""
    with Tracker(folder, start_step, total_steps=20, is_writer=True) as tracker:
        for step in range(start_step + 1, last_step + 1):
            tracker.log(step, {"loss/train": loss})


def test_all_three_places_hold_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker(tmp_path, 0, total_steps=200, is_writer=True) as tracker:
        tracker.log(10, {"loss/train": 3.5, "optim/learning_rate": 2e-4})
        tracker.log(20, {"loss/train": 3.25, "optim/learning_rate": 3e-4})
    assert points(tmp_path, "loss/train") == [(10, 3.5), (20, 3.25)]
    assert dict(points(tmp_path, "optim/learning_rate")) == pytest.approx({10: 2e-4, 20: 3e-4})
    found = [{key: row[key] for key in row if key != "time"} for row in lines(tmp_path)]
    assert found == [
        {"step": 10, "loss/train": 3.5, "optim/learning_rate": 2e-4},
        {"step": 20, "loss/train": 3.25, "optim/learning_rate": 3e-4},
    ]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step  10/200  loss  3.500  lr 2.0e-4")
    assert second.startswith("step  20/200  loss  3.250  lr 3.0e-4")


def test_a_resume_draws_no_step_twice(tmp_path: Path) -> None:
    run(tmp_path, 0, 8, loss=1.0)  # killed after step 8; its last checkpoint is of step 5
    run(tmp_path, 5, 10, loss=2.0)
    expected = [(step, 1.0) for step in range(1, 6)] + [(step, 2.0) for step in range(6, 11)]
    assert points(tmp_path, "loss/train") == expected
    assert [(row["step"], row["loss/train"]) for row in lines(tmp_path)] == expected


def test_several_resumes_and_one_at_the_same_step(tmp_path: Path) -> None:
    for start, last, loss in ((0, 4, 1.0), (2, 7, 2.0), (2, 9, 3.0), (9, 10, 4.0)):
        run(tmp_path, start, last, loss)
    expected = [(1, 1.0), (2, 1.0), *((step, 3.0) for step in range(3, 10)), (10, 4.0)]
    assert points(tmp_path, "loss/train") == expected
    assert [(row["step"], row["loss/train"]) for row in lines(tmp_path)] == expected


def test_a_step_that_is_repeated_is_logged_once(tmp_path: Path) -> None:
    """One that was interrupted after its update: its own line is written by whoever ends it."""
    for end, start, repeats in ((2, 0, False), (2, 2, True), (4, 3, True)):
        with Tracker(tmp_path, start, 20, True, repeats_step=repeats) as tracker:
            for step in range(start + (not repeats and start > 0), end + 1):
                tracker.log(step, {"loss/train": float(step)})
    lines = (tmp_path / tracking.METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3, 4]


def test_a_run_killed_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    with Tracker(tmp_path, 0, total_steps=20, is_writer=True) as tracker:
        tracker.log(0, {"loss/valid": 9.0})
        tracker.log(1, {"loss/valid": 8.0})
    with Tracker(tmp_path, 0, total_steps=20, is_writer=True) as tracker:
        tracker.log(0, {"loss/valid": 7.0})
    assert points(tmp_path, "loss/valid") == [(0, 7.0)]
    assert [row["loss/valid"] for row in lines(tmp_path)] == [7.0]


def test_files_torn_by_a_kill_are_survived(tmp_path: Path) -> None:
    run(tmp_path, 0, 5, loss=1.0)
    for path in (next(tmp_path.glob("events.*")), tmp_path / tracking.METRICS):
        path.write_bytes(path.read_bytes()[:-7])
    run(tmp_path, 3, 6, loss=2.0)
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
    assert points(tmp_path, "loss/train") == expected
    assert [(row["step"], row["loss/train"]) for row in lines(tmp_path)] == expected


def test_event_files_sort_in_the_order_of_starts_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now, start in ((2000.0, 0), (2000.0, 1), (1000.0, 2)):
        monkeypatch.setattr(tracking.time, "time", lambda now=now: now)
        run(tmp_path, start, start + 1, loss=float(start))
    assert [path.name.split(".")[3] for path in sorted(tmp_path.glob("events.*"))] == [
        "0000002000",
        "0000002001",
        "0000002002",
    ]
    assert points(tmp_path, "loss/train") == [(1, 0.0), (2, 1.0), (3, 2.0)]


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path: Path) -> None:
    with Tracker(tmp_path, 0, total_steps=20, is_writer=True) as tracker:
        tracker.log(1, {"loss/train": math.nan, "optim/gradient_norm": math.inf})
    (row,) = lines(tmp_path)
    assert row["loss/train"] == "nan"
    assert row["optim/gradient_norm"] == "inf"
    assert float(str(row["optim/gradient_norm"])) == math.inf


def test_the_logged_numbers_are_on_disk_at_once(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, 0, total_steps=20, is_writer=True)
    tracker.log(1, {"loss/train": 1.5})
    assert points(tmp_path, "loss/train") == [(1, 1.5)]
    assert [row["loss/train"] for row in lines(tmp_path)] == [1.5]
    tracker.flush()
    tracker.close()
    tracker.close()


def test_ranks_that_do_not_write_leave_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker(tmp_path / "run", 0, total_steps=20, is_writer=False) as tracker:
        tracker.log(1, {"loss/train": 1.0})
        tracker.text("recipe", "x", 0)
        tracker.image("matrix", b"no picture", 0)
        tracker.pr_curve("law", [True], [0.5], 0)
        tracker.hyperparameters({"seed": 1})
        tracker.finish()
        tracker.flush()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


def test_text_reaches_its_plugin(tmp_path: Path) -> None:
    for start in (0, 4):
        with Tracker(tmp_path, start, total_steps=20, is_writer=True) as tracker:
            tracker.text("recipe", f"from {start}", start)
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.SummaryMetadata("recipe").plugin_data.plugin_name == "text"
    texts = [
        tensor_util.make_ndarray(event.tensor_proto) for event in accumulator.Tensors("recipe")
    ]
    assert [text.item().decode() for text in texts] == ["from 0", "from 4"]


def layout(folder: Path) -> dict[str, list[str]]:
    """The newest arrangement of charts: titles by category."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    tag = "custom_scalars__config__"
    assert accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "custom_scalars"
    content = tensor_util.make_ndarray(accumulator.Tensors(tag)[-1].tensor_proto).item()
    found = layout_pb2.Layout.FromString(content)
    return {part.title: [chart.title for chart in part.chart] for part in found.category}


def test_charts_are_those_that_have_curves(tmp_path: Path) -> None:
    with Tracker(tmp_path, 0, total_steps=20, is_writer=True) as tracker:
        tracker.log(1, {"loss/train": 2.0})
        assert layout(tmp_path) == {"Learning": ["training and validation loss"]}
        tracker.log(2, {"mixture/law": 0.25})
    expected = {
        "Learning": ["training and validation loss"],
        "Mixture": ["share of each source"],
    }
    assert layout(tmp_path) == expected
    with Tracker(tmp_path, 2, total_steps=20, is_writer=True):
        assert layout(tmp_path) == expected  # a resume knows them without waiting for a log


def test_going_back_within_one_process_draws_no_step_twice(tmp_path: Path) -> None:
    """As the loop does after too many refused updates: a second Tracker, earlier, same second."""
    with Tracker(tmp_path, 0, total_steps=20, is_writer=True) as tracker:
        for step in range(1, 9):
            tracker.log(step, {"loss/train": 1.0})
        tracker.text("predictions", "lost", 7)
    with Tracker(tmp_path, 4, total_steps=20, is_writer=True) as tracker:
        for step in range(5, 9):
            tracker.log(step, {"loss/train": 2.0})
        tracker.text("predictions", "found", 7)
    expected = [(step, 1.0 if step < 5 else 2.0) for step in range(1, 9)]
    assert points(tmp_path, "loss/train") == expected
    assert [(row["step"], row["loss/train"]) for row in lines(tmp_path)] == expected
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    (event,) = accumulator.Tensors("predictions")
    assert tensor_util.make_ndarray(event.tensor_proto).item() == b"found"


def test_time_left_follows_the_recent_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(tracking.time, "monotonic", lambda: next(clock))
    tracker = Tracker(tmp_path, 100, total_steps=1000, is_writer=True)
    assert tracker.seconds_left(100) is None
    tracker.log(110, {"loss/train": 1.0})
    tracker.log(120, {"loss/train": 1.0})
    assert tracker.seconds_left(120) == pytest.approx(880.0)
    tracker.close()


def test_time_left_is_at_most_what_a_budget_of_time_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(tracking.time, "monotonic", lambda: next(clock))
    tracker = Tracker(tmp_path, 0, total_steps=1000, is_writer=True)
    tracker.ends_at = 130.0
    tracker.log(10, {"loss/train": 1.0})
    assert tracker.seconds_left(10) == pytest.approx(30.0)
