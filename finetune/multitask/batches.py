"""Batches of several tasks: a pure function of the step, and of the weights that the last one set.

A micro batch holds inputs of one task. With it go `task`, `scale`, that makes the step's loss the
sum over its tasks of weight x mean loss a target, and `count`, its number of targets. The loop
divides the summed loss of all micro batches and ranks by all their targets; so a task's loss is
scaled by weight x targets of the step / targets of the task, both over all ranks, and neither
ranks nor the size of micro batches can change an update.

The first and the last micro batch of a step touch the parameters of all tasks (gradients of zero).
DeepSpeed 0.19 would else train with wrong ones, and say nothing: ZeRO-3 overwrites gradients in the
first micro batch of a step and adds to them in the others, so a head that comes later, or not at
all, goes on with those of the step before; ZeRO-1 reduces over the ranks what has a gradient in the
last micro batch, and leaves every rank its own of the rest.

All ranks run the same tasks in the same order in a step: their layers, and under ZeRO-3 their
collectives, depend on it, and DeepSpeed would hang or die. They compare before each step.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.batches import LabelledBatches
from finetune.heads import Objective
from finetune.losses import num_targets
from finetune.multitask.sampling import Schedule
from finetune.task import Window
from pretrain.micro_batch import MicroBatch
from runtime import processes
from runtime.errors import DataError


class TaskBatches:
    """The batches of one of the tasks, in its own order."""

    def __init__(
        self,
        name: str,
        windows: Sequence[Window],
        objective: Objective,
        size: int,
        micro_batch_size: int,
        seed: int,
    ) -> None:
        """`size`: inputs of a batch over all ranks; `micro_batch_size`: at most, of a forward."""
        self.name = name
        self.windows = windows
        accumulation = -(-size // (micro_batch_size * processes.world_size()))
        self.batches = LabelledBatches(windows, objective.inputs, size, accumulation, 1, seed)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Targets of every window."""
        return np.array([num_targets(window.targets) for window in self.windows], dtype=np.int64)

    def num_targets(self, batch: int) -> int:
        """Of all ranks in a batch of this task (from 0)."""
        return int(self.counts[self.batches.windows_of(batch)].sum())

    def micro_batches(self, batch: int, scale: float) -> list[MicroBatch]:
        """This rank's share of a batch."""
        return [
            replace(
                found,
                inputs={
                    **found.inputs,
                    "scale": torch.tensor(scale),
                    "count": torch.tensor(float(found.num_targets)),
                },
            )
            for found in self.batches.micro_batches(batch)
        ]


class MultiTaskBatches:
    """The training data of several tasks as the loop takes it."""

    def __init__(
        self,
        tasks: Sequence[TaskBatches],
        schedule: Schedule,
        weights: Callable[[], Sequence[float]],
    ) -> None:
        """`weights` of each task's loss in the step that is asked for next."""
        self.tasks = tasks
        self.schedule = schedule
        self.weights = weights

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def share_done(self, step: int) -> float:
        """Share of the training that the first `step` steps are, in [0, 1]."""
        return min(1.0, step / self.total_steps)

    def documents(self, step: int) -> list[str]:
        """The training rows of a step with their tasks, counted from 0, for a message."""
        return [
            f"{self.tasks[task].name} {row}"
            for task, batch in self.schedule.batches(step)
            for row in self.tasks[task].batches.documents(batch)
        ]

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This rank's share of a step (from 0). All ranks call it; DataError on all of them if they
        would not train the same tasks."""
        parts = self.schedule.batches(step)
        counts = [self.tasks[task].num_targets(batch) for task, batch in parts]
        weights = self.weights()
        found: list[MicroBatch] = []
        told = [f"{self.total_steps} steps in all"]
        for (task, batch), count in zip(parts, counts, strict=True):
            scale = weights[task] * sum(counts) / count if count else 0.0
            micro_batches = self.tasks[task].micro_batches(batch, scale)
            told.append(f"{self.tasks[task].name} x {len(micro_batches)} ({count} targets)")
            found += micro_batches
        agree(step, ", ".join(told))
        for place in {0, len(found) - 1}:
            inputs = {**found[place].inputs, "touches_all": True}
            found[place] = replace(found[place], inputs=inputs)
        return found


def agree(step: int, told: str) -> None:
    """Raise DataError on all ranks unless all of them tell the same of a step. All ranks call
    it."""
    mark = float(zlib.crc32(told.encode()))  # below 2^32: exact in a sum over ranks
    total = processes.sum_over_ranks([mark])[0]
    if not processes.any_rank(total != mark * processes.world_size()):
        return
    by_rank = "; ".join(f"rank {rank}: {each}" for rank, each in enumerate(processes.gather(told)))
    raise DataError(
        f"ranks would train different tasks in step {step + 1} ({by_rank}): they do not read the "
        "same training rows; give all nodes the same files and recipe, and run again"
    )
