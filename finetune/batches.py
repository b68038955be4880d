"""Batches of labelled windows, bucketed by length: a pure function of (seed, step).

Every epoch takes each window exactly once. The windows are permuted, cut into pools of a few
global batches, and sorted by length inside a pool, so that the windows of a global batch are alike
and its composition still changes every epoch. Which windows a global batch holds depends on nothing
but the seed and the step: ranks and micro batches only share it out, in turn, so that they have
about the same number of tokens. The last batch of an epoch may be smaller; every rank still gets
the same number of micro batches, blank ones if need be.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.collate import blank
from finetune.losses import num_targets
from finetune.task import Window
from pretrain.batches import MicroBatch
from runtime import processes

POOL = 8  # global batches that are sorted by length together


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """The windows of every global batch of an epoch, in order; each sorted by length."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    pool = batch_size * POOL
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


class LabelledBatches:
    """The training data of a task as the loop takes it."""

    def __init__(
        self,
        windows: Sequence[Window],
        inputs: Callable[[Sequence[Window]], dict[str, Any]],
        batch_size: int,
        accumulation: int,
        epochs: int,
        seed: int,
    ) -> None:
        """`inputs` makes what the objective takes (`Objective.inputs`)."""
        self.windows = windows
        self.inputs = inputs
        self.accumulation = accumulation
        lengths = np.array([len(window.input_ids) for window in windows], dtype=np.int64)
        self.steps_per_epoch = -(-len(windows) // batch_size)
        self.total_steps = self.steps_per_epoch * epochs
        self.epoch = lru_cache(maxsize=1)(
            lambda epoch: epoch_batches(lengths, batch_size, seed, epoch)
        )

    def share_done(self, step: int) -> float:
        """Share of the training that the first `step` steps are, in [0, 1]."""
        return min(1.0, step / self.total_steps)

    def documents(self, step: int) -> list[str]:
        """The training rows of a step, counted from 0, for a message."""
        windows = [self.windows[i] for i in self.windows_of(step)]
        return [f"row {window.row} ({len(window.input_ids)} tokens)" for window in windows]

    def windows_of(self, step: int) -> NDArray[np.int64]:
        """The numbers of the windows that all ranks take in a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[place]

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This rank's share of a step (from 0)."""
        world, windows = processes.world_size(), self.windows_of(step)
        num_parts = world * self.accumulation
        return [
            self.micro_batch(windows[part::num_parts])
            for part in range(processes.rank(), num_parts, world)
        ]

    def micro_batch(self, indices: NDArray[np.int64]) -> MicroBatch:
        """These windows, or a blank one."""
        windows = [self.windows[i] for i in indices]
        return MicroBatch(
            inputs=self.inputs(windows or [blank(self.windows[0])]),
            num_targets=sum(num_targets(window.targets) for window in windows),
            num_tokens=sum(len(window.input_ids) for window in windows),
        )
