"""Micro batches of packed samples: a pure function of the step.

Step s holds the global samples s x B to (s + 1) x B of the mixture order. Micro batch m of rank r
takes its share of them; neither ranks nor accumulation change which samples a step holds or how
they are masked. A micro batch is one flat row of `micro_size x sequence_length` tokens with the
boundaries of its segments; padding is a segment of its own. Shapes are static.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_prep.mixture import Order, Shares, sample_order
from data_prep.shards import Reader, Rows
from pretrain import masking
from pretrain.masker import Masker
from pretrain.micro_batch import MicroBatch
from runtime.engine import Batch

__all__ = ["Batches", "MicroBatch", "MixtureBatches", "gather"]


class Batches(Protocol):
    """The data of a run. `micro_batches` gives this rank's share of a step (from 0), the same
    number on every rank, and depends on its argument alone."""

    @property
    def total_steps(self) -> int: ...

    def micro_batches(self, step: int) -> list[MicroBatch]: ...

    def share_done(self, step: int) -> float:
        """Share of the run's tokens that the first `step` steps hold, in [0, 1]."""
        ...

    def documents(self, step: int) -> list[str]:
        """What a step is made of, for a message: this rank knows it for all ranks."""
        ...


@dataclass(frozen=True)
class MixtureBatches:
    """Training batches from the mixture of all sources."""

    masker: Masker
    readers: Sequence[Reader]
    shares: Shares  # of each reader
    batch: Batch
    total_tokens: int
    rank: int
    world_size: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps that train on at least `total_tokens`, padding included."""
        return math.ceil(self.total_tokens / self.tokens_per_step)

    @property
    def tokens_per_step(self) -> int:
        return self.batch.global_size * self.masker.corpus.sequence_length

    def share_done(self, step: int) -> float:
        """Share of the run's tokens that the first `step` steps hold."""
        return step / self.total_steps

    def documents(self, step: int) -> list[str]:
        """Source, sample and document hashes of a step."""
        return []  # STUB

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This rank's micro batches of a step."""
        size = self.batch.micro_size
        first = step * self.batch.global_size + self.rank * size
        starts = range(first, (step + 1) * self.batch.global_size, size * self.world_size)
        return [self.micro_batch(start, size) for start in starts]

    def micro_batch(self, start: int, count: int) -> MicroBatch:
        """The samples `start` to `start + count` of the mixture order."""
        counts = [reader.num_samples for reader in self.readers]
        seed = self.masker.seed
        order = sample_order(counts, self.shares.weights, seed, start, count, self.shares.limits)
        keys = masking.sample_keys(seed, order.epoch, order.source, order.sample)
        return self.masker.micro_batch(gather(self.readers, order), keys)


def gather(readers: Sequence[Reader], order: Order) -> Rows:
    """The samples of an order, read source by source, returned in the order's sequence."""
    parts = [
        (places, readers[source].gather(order.sample[places]))
        for source in np.unique(order.source)
        if len(places := np.flatnonzero(order.source == source))
    ]
    tokens = np.empty((len(order.sample), parts[0][1].tokens.shape[1]), parts[0][1].tokens.dtype)
    counts = np.empty(len(order.sample), parts[0][1].counts.dtype)
    for places, rows in parts:
        tokens[places] = rows.tokens
        counts[places] = rows.counts
    # segments of the parts, brought into the order of their samples
    owner = np.concatenate([np.repeat(places, rows.counts) for places, rows in parts])
    sequence = np.argsort(owner, kind="stable")
    lengths = np.concatenate([rows.lengths for _, rows in parts])[sequence]
    documents = np.concatenate([rows.documents for _, rows in parts])[sequence]
    return Rows(tokens=tokens, lengths=lengths, counts=counts, documents=documents)
