"""What TensorBoard shows of an evaluation, read back with TensorBoard's own loader."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from finetune.reports import pictures
from runtime.tracking import Tracker
from tests.finetune import made_up


def shown(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return found


def test_confusion_reliability_and_curves_are_recorded(tmp_path: Path) -> None:
    made = made_up.classes()
    scored = made["runs"][0].results["valid"]
    with Tracker(tmp_path, 0, 10, is_writer=True) as tracker:
        pictures.show(tracker, 4, made["task"], scored)
        pictures.show(tracker, 8, made["task"], scored, prefix="reviews/")
    found = shown(tmp_path)
    tags = {f"{prefix}{tag}" for prefix in ("", "reviews/")
            for tag in ("confusion", "reliability", "precision_recall/neg",
                        "precision_recall/pos")}  # fmt: skip
    assert tags <= set(found.Tags()["tensors"])
    (event,) = found.Tensors("confusion")
    assert event.step == 4
    assert tensor_util.make_ndarray(event.tensor_proto)[2].startswith(b"\x89PNG")
    (event,) = found.Tensors("precision_recall/pos")
    table = tensor_util.make_ndarray(event.tensor_proto)
    # At a threshold of 0.65 the rows of 0.9 and 0.7 are found, of 0.6 is not.
    assert table[:4, 65].tolist() == [2.0, 0.0, 2.0, 0.0]
    assert table[4, 55] == pytest.approx(2 / 3)


def test_what_does_not_apply_is_left_out(tmp_path: Path) -> None:
    made = made_up.entities()
    scored = made["runs"][1].results["valid"]  # nothing was predicted
    with Tracker(tmp_path, 0, 10, is_writer=True) as tracker:
        pictures.show(tracker, 4, made["task"], scored)
    tags = shown(tmp_path).Tags()["tensors"]
    assert "confusion" in tags
    assert "reliability" not in tags


def test_other_ranks_draw_nothing(tmp_path: Path) -> None:
    made = made_up.classes()
    tracker = Tracker(tmp_path, 0, 10, is_writer=False)
    pictures.show(tracker, 4, made["task"], made["runs"][0].results["valid"])
    assert not list(tmp_path.iterdir())
