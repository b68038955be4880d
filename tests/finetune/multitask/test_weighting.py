"""Weights by hand on small numbers, and that a restored rule goes on as if nothing had happened."""

import json
import math
from typing import Any

import pytest

from finetune.multitask.table import MultiTask
from finetune.multitask.weighting import DynamicWeightAverage, Famo, Fixed, Rule, rule_of, spread


def table(**fields: Any) -> MultiTask:
    return MultiTask(weights={"ner": 1.0, "topic": 0.5}, **fields)


def test_spread_keeps_the_sum() -> None:
    assert spread([1.0, 0.5], [0.0, 0.0]) == pytest.approx([1.0, 0.5])
    # 1 x 3 : 0.5 x 1 of a sum of 1.5
    assert spread([1.0, 0.5], [math.log(3), 0.0]) == pytest.approx([1.5 * 6 / 7, 1.5 / 7])
    assert spread([1.0, 1.0], [800.0, 800.0]) == pytest.approx([1.0, 1.0])


def test_fixed_weights_stay() -> None:
    rule = rule_of(table(), 10)
    assert isinstance(rule, Fixed)
    for _ in range(3):
        rule.after_step([9.0, 0.1])
    assert rule.weights() == [1.0, 0.5]


def test_dwa_by_hand() -> None:
    """Periods of two steps. Mean losses 0.8, 0.6 and then 0.4, 0.6: r = 0.5 and 1."""
    rule = DynamicWeightAverage([1.0, 1.0], 2.0, 2)
    for losses in ([0.9, 0.7], [0.7, 0.5]):
        assert rule.weights() == pytest.approx([1.0, 1.0])
        rule.after_step(losses)
    assert rule.weights() == pytest.approx([1.0, 1.0])  # a single period says no rate
    for losses in ([0.4, 0.6], [0.4, 0.6]):
        assert rule.weights() == pytest.approx([1.0, 1.0])
        rule.after_step(losses)
    fast, slow = math.exp(0.5 / 2), math.exp(1 / 2)
    expected = [2 * fast / (fast + slow), 2 * slow / (fast + slow)]
    assert rule.weights() == pytest.approx(expected)
    assert expected == pytest.approx([0.87565, 1.12435], abs=1e-5)


def test_dwa_keeps_the_means_of_a_task_that_was_not_sampled() -> None:
    rule = DynamicWeightAverage([1.0, 1.0], 2.0, 1)
    for losses in ([1.0, 1.0], [0.5, 0.9], [None, 0.9]):
        rule.after_step(losses)
    assert (rule.before, rule.last) == ([1.0, 0.9], [0.5, 0.9])


def test_famo_weights_by_hand() -> None:
    """Equal logits: weights are as 1 / 0.5 : 1 / 0.25 = 2 : 4 of a sum of 2."""
    rule = Famo([1.0, 1.0], 0.1, 0.0, 0.0)
    assert rule.weights() == pytest.approx([1.0, 1.0])
    rule.after_step([0.5, 0.25])
    assert rule.weights() == pytest.approx([2 / 3, 4 / 3])


def test_famo_logits_by_hand() -> None:
    """z = (1/2, 1/2) and log D fell by log 2 and 0: the gradients are z (d - sum z d) = +-(log 2)/4
    and Adam's first step is the learning rate against their signs."""
    rule = Famo([1.0, 1.0], 0.1, 0.0, 0.0)
    rule.after_step([1.0, 1.0])
    rule.after_step([0.5, 1.0])
    assert rule.logits.grad is not None
    assert rule.logits.grad.tolist() == pytest.approx([math.log(2) / 4, -math.log(2) / 4])
    assert rule.logits.tolist() == pytest.approx([-0.1, 0.1], abs=1e-6)
    z = 1 / (1 + math.exp(0.2))  # softmax of -0.1, 0.1
    each = [z / 0.5, (1 - z) / 1.0]
    assert rule.weights() == pytest.approx([2 * e / sum(each) for e in each], abs=1e-6)


def test_famo_begins_with_the_weights_of_the_recipe() -> None:
    rule = Famo([3.0, 1.0], 0.1, 0.0, 0.0)
    assert rule.weights() == pytest.approx([3.0, 1.0])
    rule.after_step([0.7, 0.7])
    assert rule.weights() == pytest.approx([3.0, 1.0])


def test_famo_remembers_losses() -> None:
    """At first the plain mean: of 1 and 0.5, 0.75; from then on memory x old + the rest x new."""
    rule = Famo([1.0, 1.0], 0.1, 0.0, 0.5)
    for losses in ([1.0, 1.0], [0.5, 1.0]):
        rule.after_step(losses)
    assert rule.means == pytest.approx([0.75, 1.0])
    rule.after_step([0.25, 1.0])
    assert rule.means == pytest.approx([0.5, 1.0])


def test_famo_passes_over_a_step_without_a_loss() -> None:
    rule = Famo([1.0, 1.0], 0.1, 0.0, 0.0)
    rule.after_step([0.5, 0.5])
    before = rule.state()
    rule.after_step([None, 0.1])
    assert rule.state() == before


RULES = {
    "fixed": lambda: rule_of(table(), 3),
    "dwa": lambda: rule_of(table(weighting="dwa"), 3),
    "famo": lambda: rule_of(table(weighting="famo"), 3),
}


@pytest.mark.parametrize("name", RULES)
def test_a_restored_rule_goes_on_exactly(name: str) -> None:
    losses = [[1 / (i + 1.5), 1 / (0.3 * i + 1.1)] for i in range(12)]

    def weights(rule: Rule, some: list[list[float]]) -> list[list[float]]:
        found = []
        for each in some:
            rule.after_step(each)
            found.append(rule.weights())
        return found

    whole = weights(RULES[name](), losses)
    first, second = RULES[name](), RULES[name]()
    begun = weights(first, losses[:7])
    second.restore(json.loads(json.dumps(first.state())))
    assert begun + weights(second, losses[7:]) == whole  # bit for bit
    assert (whole[0] == whole[-1]) == (name == "fixed")
    assert all(sum(each) == pytest.approx(1.5) for each in whole)
