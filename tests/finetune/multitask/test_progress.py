"""The hook by hand: means of what the forwards noted, and the weights that follow from them."""

import json
import math

import pytest
import torch

from finetune.multitask.progress import Noted, Progress
from finetune.multitask.weighting import DynamicWeightAverage, Fixed
from pretrain.hooks import Done
from runtime.checkpoint import Position

NORMS = [2.0, 0.5]


def done(step: int, is_last: bool = False) -> Done:
    return Done(Position(step=step), 0.5, is_last, None)


def note(noted: Noted, task: int, loss: float, count: float) -> None:
    noted.losses.append((task, torch.tensor(loss), torch.tensor(count)))


def test_losses_of_a_step_are_summed_and_shown_at_the_interval() -> None:
    noted = Noted()
    progress = Progress(["a", "b"], NORMS, Fixed([1.0, 0.5]), noted, 2)
    note(noted, 0, 6.0, 2.0)
    note(noted, 0, 2.0, 2.0)
    note(noted, 1, 1.0, 1.0)
    assert progress.after_step(done(1)) == {}
    assert noted.losses == []
    note(noted, 0, 4.0, 2.0)
    # a: (6 + 2 + 4) nats of 6 targets
    assert progress.after_step(done(2)) == {
        "loss_by_task/a": 2.0, "loss_by_task/b": 1.0, "weight/a": 1.0, "weight/b": 0.5,
    }  # fmt: skip
    note(noted, 0, 1.0, 1.0)
    assert progress.after_step(done(3, is_last=True)) == {
        "loss_by_task/a": 1.0, "weight/a": 1.0, "weight/b": 0.5,
    }  # fmt: skip


def test_a_rule_is_given_means_in_norms() -> None:
    noted = Noted()
    rule = DynamicWeightAverage([1.0, 1.0], 2.0, 1)
    progress = Progress(["a", "b"], NORMS, rule, noted, 1)
    note(noted, 0, 6.0, 3.0)
    note(noted, 1, 6.0, 3.0)
    progress.after_step(done(1))
    assert rule.last == [1.0, 4.0]


def test_a_step_that_is_not_finite_teaches_nothing() -> None:
    noted = Noted()
    rule = DynamicWeightAverage([1.0, 1.0], 2.0, 1)
    progress = Progress(["a", "b"], NORMS, rule, noted, 9)
    note(noted, 0, math.nan, 3.0)
    progress.after_step(done(1))
    assert (rule.last, progress.sums, noted.losses) == ([None, None], [0.0, 0.0], [])


def test_trained_log_variances_show_the_weights_they_are() -> None:
    noted = Noted()
    progress = Progress(["a", "b"], NORMS, Fixed([1.0, 0.5]), noted, 1)
    noted.log_variances = torch.tensor([math.log(2.0), 0.0])
    found = progress.after_step(done(1))
    assert found == pytest.approx({"weight/a": 0.5, "weight/b": 0.5})


def test_state_is_json_and_goes_on_between_two_points() -> None:
    noted = Noted()
    progress = Progress(["a", "b"], NORMS, Fixed([1.0, 0.5]), noted, 2)
    note(noted, 0, 6.0, 2.0)
    progress.after_step(done(1))
    other = Progress(["a", "b"], NORMS, Fixed([1.0, 0.5]), Noted(), 2)
    other.restore(json.loads(json.dumps(progress.state())))
    for each in (progress, other):
        note(each.noted, 0, 2.0, 2.0)
    assert progress.after_step(done(2)) == other.after_step(done(2))
