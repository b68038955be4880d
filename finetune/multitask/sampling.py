"""Which tasks a step trains, and how many inputs of each: a pure function of (recipe, seed, step).

An epoch is one pass over the main task, the first that `weights` names. The other tasks go round
and round in orders of their own. With proportional sampling an epoch is a pass over each of them;
otherwise some are seen more often than others, and the report says how often.

Joint: every step holds inputs of every task, shared out by `sampling`; at least one of each.
Alternate: every step holds a batch of one task. An epoch has a fixed number of steps of each task,
in an order that is shuffled anew every epoch, so that shares are exact and not only expected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finetune.multitask.table import MultiTask


@dataclass(frozen=True)
class Schedule:
    """What each step of a run holds; tasks are numbered as the recipe names them, 0 is the main
    one."""

    table: MultiTask
    num_windows: tuple[int, ...]  # training inputs of each task
    seed: int

    @property
    def is_joint(self) -> bool:
        return self.table.steps == "joint"

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Inputs of each task in a step that trains it, over all ranks."""
        if not self.is_joint:
            return tuple(self.table.batch_size for _ in self.num_windows)
        return shared_out(self.table.batch_size, shares(self.num_windows, self.table))

    @cached_property
    def main_steps(self) -> int:
        """Steps of the main task in an epoch."""
        return num_batches(self.num_windows[0], self.sizes[0])

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The task of every step, if steps alternate."""
        batches = [num_batches(n, self.table.batch_size) for n in self.num_windows]
        share = shares(batches, self.table)
        # Of each task in an epoch. Rounding is carried on, so that it never adds up.
        per_epoch = [self.main_steps * each / share[0] for each in share]
        epochs = []
        for epoch in range(self.table.epochs):
            counts = [int((epoch + 1) * n + 0.5) - int(epoch * n + 0.5) for n in per_epoch]
            tasks = np.repeat(np.arange(len(counts)), counts)
            epochs.append(np.random.default_rng([self.seed, epoch]).permutation(tasks))
        return np.concatenate(epochs)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Which batch of its task every step takes, from 0, if steps alternate."""
        found = np.zeros_like(self.order)
        for task in range(len(self.num_windows)):
            is_task = self.order == task
            found[is_task] = np.arange(is_task.sum())
        return found

    @property
    def total_steps(self) -> int:
        return self.main_steps * self.table.epochs if self.is_joint else len(self.order)

    @property
    def steps_per_epoch(self) -> int:
        """In the mean: epochs of alternate steps may differ by one step a task."""
        return max(1, round(self.total_steps / self.table.epochs))

    def batches(self, step: int) -> list[tuple[int, int]]:
        """The tasks of a step (from 0), and which batch of its own each of them takes. Steps past
        the last one, of a run that passed over data, go on from the first order."""
        if self.is_joint:
            return [(task, step) for task in range(len(self.num_windows))]
        around, place = divmod(step, len(self.order))
        task = int(self.order[place])
        before = around * int((self.order == task).sum())
        return [(task, before + int(self.places[place]))]

    def steps_of(self, task: int, steps: int) -> int:
        """In how many of the first `steps` steps a task was trained."""
        return steps if self.is_joint else int((self.order[:steps] == task).sum())


def num_batches(num_windows: int, size: int) -> int:
    return -(-num_windows // size)


def shares(counts: Sequence[int], table: MultiTask) -> list[float]:
    """Each task's share of what is sampled, summing to 1."""
    power = {"proportional": 1.0, "temperature": 1 / table.temperature, "uniform": 0.0}
    raised = [count ** power[table.sampling] for count in counts]
    return [each / sum(raised) for each in raised]


def shared_out(total: int, share: Sequence[float]) -> tuple[int, ...]:
    """`total` inputs: one for each, the rest by these shares, what rounding leaves to the largest
    remainders."""
    wanted = [1 + (total - len(share)) * each for each in share]
    found = [int(each) for each in wanted]
    by_remainder = sorted(range(len(share)), key=lambda i: found[i] - wanted[i])
    for i in by_remainder[: total - sum(found)]:
        found[i] += 1
    return tuple(found)
