"""Micro batches of packed samples: a pure function of the step.

Step s holds the global samples s x B to (s + 1) x B of the mixture order. Micro batch m of rank r
takes its share of them; neither ranks nor accumulation change which samples a step holds or how
they are masked. A micro batch is one flat row of `micro_size x sequence_length` tokens with the
boundaries of its segments; padding is a segment of its own. Shapes are static.
"""

# B samples of the micro batch  T tokens per sample  K targets, padded

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from data_prep.mixture import Order, Shares, sample_order
from data_prep.shards import Corpus, Reader, Rows
from pretrain import masking
from pretrain.config import Objective
from pretrain.model.attention import segments_of
from pretrain.model.objective import IGNORED
from runtime.engine import Batch


@dataclass(frozen=True)
class MicroBatch:
    """What one forward of one rank needs, and what it counts for."""

    inputs: dict[str, Any]
    num_targets: int
    num_tokens: int  # without padding


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
class Masker:
    """How the samples of a corpus are masked and laid out."""

    corpus: Corpus
    objective: Objective
    seed: int
    first_position: int

    def micro_batch(self, rows: Rows, keys: np.ndarray) -> MicroBatch:
        """Mask rows (B, T) and flatten them to one packed row (1, B x T)."""
        facts = self.corpus.tokenizer
        masked = masking.mask(
            rows.tokens,
            keys,
            self.objective.mask_share,
            self.objective.replace_by_mask,
            self.objective.replace_by_random,
            facts.mask_id,
            np.asarray(facts.special_ids),
            facts.vocab_size,
        )
        num_samples, length = rows.tokens.shape
        lengths = with_padding(rows, length)
        most = num_samples * max(1, math.floor(self.objective.mask_share * length))
        missing = most - len(masked.targets)
        starts = np.cumsum(lengths) - lengths
        position_ids = np.arange(num_samples * length) - np.repeat(starts, lengths)
        inputs = {
            "input_ids": torch.from_numpy(masked.tokens.reshape(1, -1)),
            "position_ids": torch.from_numpy(position_ids[None] + self.first_position),
            "positions": torch.from_numpy(np.pad(masked.positions, (0, missing))),
            "targets": torch.from_numpy(
                np.pad(masked.targets, (0, missing), constant_values=IGNORED)
            ),
            "segments": segments_of(lengths),
        }
        return MicroBatch(inputs, len(masked.targets), int(rows.lengths.sum()))


def with_padding(rows: Rows, length: int) -> np.ndarray:
    """Segment lengths of all rows in order; what a row has left is a segment of its own."""
    ends = np.cumsum(rows.counts)
    filled = np.add.reduceat(rows.lengths, ends - rows.counts)
    padding = length - filled
    has_padding = padding > 0
    return np.insert(rows.lengths, ends[has_padding], padding[has_padding]).astype(np.int64)


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
