"""Batches of labelled windows, bucketed by length: a pure function of (seed, step).

Every epoch takes each window exactly once. The windows are permuted, cut into pools of a few
global batches, and sorted by length inside a pool, so that a global batch needs little padding and
its composition still changes every epoch. Which windows a global batch holds depends on nothing but
the seed and the step: ranks and micro batches only share it out, contiguously by length, so that
ranks do about the same work. The last batch of an epoch may be smaller; every rank still gets the
same number of micro batches, blank ones if need be.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.collate import blank, collate
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
        head: str,
        pad_id: int,
        batch_size: int,
        accumulation: int,
        epochs: int,
        seed: int,
    ) -> None:
        self.windows = windows
        self.head = head
        self.pad_id = pad_id
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
        world = processes.world_size()
        parts = np.array_split(self.windows_of(step), world * self.accumulation)
        return [self.micro_batch(part) for part in parts[processes.rank() :: world]]

    def micro_batch(self, indices: NDArray[np.int64]) -> MicroBatch:
        windows = [self.windows[i] for i in indices] or [blank(self.windows[0])]
        arrays = collate(windows, self.head, self.pad_id)
        return MicroBatch(
            inputs={name: torch.from_numpy(array) for name, array in arrays.items()},
            num_targets=int((arrays["targets"] >= 0).sum()),
            num_tokens=int(arrays["attention_mask"].sum()) * bool(len(indices)),
        )
