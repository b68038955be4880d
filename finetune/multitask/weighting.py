"""Weights of the tasks' losses that change while a model is trained.

A rule is given the mean loss of every task after each step and says the weights of the next one.
All begin with the weights of the recipe, and keep their sum. Losses are those of all ranks, divided
by what a model that knows nothing has; a task that had no target in a step has None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from finetune.multitask.table import MultiTask

SMALLEST = 1e-8  # a loss below it counts as that: logarithms and ratios of 0 are none


class Rule(Protocol):
    """How weights follow from losses. `state` is JSON and travels in checkpoints."""

    def weights(self) -> list[float]: ...

    def after_step(self, losses: Sequence[float | None]) -> None: ...

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


class Fixed:
    """The weights of the recipe, always. Also under `uncertainty`: those log-variances are
    parameters of the model."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.given = list(weights)

    def weights(self) -> list[float]:
        return self.given

    def after_step(self, losses: Sequence[float | None]) -> None:
        pass

    def state(self) -> None:
        return None

    def restore(self, state: None) -> None:
        pass


class DynamicWeightAverage:
    """A task whose loss falls more slowly than the others' weighs more.

    Liu, Johns, Davison 2019, "End-to-End Multi-Task Learning with Attention" (arXiv 1803.10704),
    equation 7: with the mean losses L of the last two periods, r = L(t-1) / L(t-2), weights are
    K softmax(r / T) over K tasks. Before two periods are over r = 1.
    """

    def __init__(self, weights: Sequence[float], temperature: float, period: int) -> None:
        self.given = list(weights)
        self.temperature = temperature
        self.period = period  # steps
        self.steps = 0  # of this period
        self.sums = [0.0] * len(weights)
        self.counts = [0] * len(weights)
        self.last: list[float | None] = [None] * len(weights)  # mean loss of the last period
        self.before: list[float | None] = [None] * len(weights)  # and of the one before it

    def weights(self) -> list[float]:
        rates = [
            1.0 if last is None or before is None else last / max(before, SMALLEST)
            for last, before in zip(self.last, self.before, strict=True)
        ]
        return spread(self.given, [rate / self.temperature for rate in rates])

    def after_step(self, losses: Sequence[float | None]) -> None:
        for i, loss in enumerate(losses):
            if loss is not None:
                self.sums[i] += loss
                self.counts[i] += 1
        self.steps += 1
        if self.steps < self.period:
            return
        # A task that was not sampled in this period keeps the means it has.
        for i, count in enumerate(self.counts):
            if count:
                self.before[i], self.last[i] = self.last[i], self.sums[i] / count
        self.steps, self.sums, self.counts = 0, [0.0] * len(self.sums), [0] * len(self.sums)

    def state(self) -> dict[str, Any]:
        names = ("steps", "sums", "counts", "last", "before")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        self.sums, self.counts = list(state["sums"]), list(state["counts"])
        self.last, self.before = list(state["last"]), list(state["before"])


class Famo:
    """Weights under which the losses of all tasks fall at like rates.

    Liu, Feng, Stone, Liu 2023, "FAMO: Fast Adaptive Multitask Optimization" (arXiv 2306.03792):
    with logits xi, z = softmax(xi) and losses D, the weights are z / D, scaled to a constant sum;
    after each step xi moves, by Adam, against the gradient of z in the direction of
    log D(t) - log D(t+1): a task that improved more than the others weighs less.

    The authors compute D(t+1) by a second forward of the same batch. Here it is the loss of the
    next batch, and D a running mean over steps, which takes out most of what batches differ by:
    no step costs more than others do.
    """

    def __init__(
        self, weights: Sequence[float], learning_rate: float, decay: float, memory: float
    ) -> None:
        self.given = list(weights)
        self.memory = memory
        self.logits = torch.zeros(len(weights), dtype=torch.float64, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits], learning_rate, weight_decay=decay)
        self.means: list[float] | None = None  # of the losses; None before the first step
        self.num_means = 0  # losses in them

    def weights(self) -> list[float]:
        shares = spread(self.given, self.logits.tolist())
        if self.means is None:
            return shares
        each = [share / mean for share, mean in zip(shares, self.means, strict=True)]
        return [weight * sum(self.given) / sum(each) for weight in each]

    def after_step(self, losses: Sequence[float | None]) -> None:
        found = [max(loss, SMALLEST) for loss in losses if loss is not None]
        if len(found) < len(losses):
            return  # nothing to compare: a step whose targets are all unknown
        self.num_means += 1
        if self.means is None:
            self.means = found
            return
        # At first the plain mean of the few losses there are.
        kept = min(self.memory, 1 - 1 / self.num_means) if self.memory else 0.0
        means = [kept * old + (1 - kept) * new for old, new in zip(self.means, found, strict=True)]
        change = [math.log(old / new) for old, new in zip(self.means, means, strict=True)]
        shares = torch.softmax(self.logits + torch.tensor(self.given).double().log(), 0)
        self.optimizer.zero_grad()
        torch.autograd.backward(shares, torch.tensor(change, dtype=torch.float64))
        self.optimizer.step()
        self.means = means

    def state(self) -> dict[str, Any]:
        moments = self.optimizer.state.get(self.logits, {})
        return {
            "logits": self.logits.tolist(),
            "means": self.means,
            "num_means": self.num_means,
            "adam": {name: value.tolist() for name, value in moments.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.logits.copy_(torch.tensor(state["logits"], dtype=torch.float64))
        self.means, self.num_means = state["means"], state["num_means"]
        self.optimizer.state.clear()
        for name, value in state["adam"].items():
            kind = torch.float32 if name == "step" else torch.float64
            self.optimizer.state[self.logits][name] = torch.tensor(value, dtype=kind)


def spread(weights: Sequence[float], logits: Sequence[float]) -> list[float]:
    """The weights times exp(logits), scaled to the sum the weights have."""
    largest = max(logits)
    raised = [w * math.exp(logit - largest) for w, logit in zip(weights, logits, strict=True)]
    return [each * sum(weights) / sum(raised) for each in raised]


def rule_of(table: MultiTask, steps_per_epoch: int) -> Rule:
    """What the recipe asks for."""
    weights = list(table.weights.values())
    if table.weighting == "dwa":
        period = table.dwa_period_steps or steps_per_epoch
        return DynamicWeightAverage(weights, table.dwa_temperature, period)
    if table.weighting == "famo":
        return Famo(weights, table.famo_learning_rate, table.famo_decay, table.famo_memory)
    return Fixed(weights)
