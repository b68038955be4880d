"""Micro batches of packed samples: a pure function of the step.

The budget (pretrain/budget.py) says which samples of which phase's order a step takes, the phase's
mixing which samples of the sources these are. Micro batch m of rank r takes its share of them;
neither ranks nor accumulation change which samples a step holds or how they are masked. A micro
batch is one flat row with the boundaries of its segments (pretrain/masker.py); its number of tokens
is the same in all phases.

Everything is made when it is asked for, in the process that asks: it costs less than 1 % of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep import executor, shards
from data_prep.mixture import Order, Shares, sample_order
from data_prep.shards import Corpus, Reader, Rows
from pretrain import masking, phases
from pretrain.budget import Budget, Portion
from pretrain.config import Recipe
from pretrain.masker import Masker
from pretrain.micro_batch import MicroBatch
from runtime import processes
from runtime.errors import TextmillError, resource_error

__all__ = ["Batches", "MicroBatch", "Mixing", "MixtureBatches", "StepSamples", "gather"]

PREPARED_AHEAD = 0  # steps whose samples are chosen before the step before them is done


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


class Mixing(Protocol):
    """Which samples the numbers of a phase's order are."""

    def order(self, start: int, count: int) -> Order:
        """The samples `start` to `start + count`. Depends on these and, if the mixture changes
        while it is trained on, on a state that travels in checkpoints."""
        ...


@dataclass(frozen=True)
class FixedMixing:
    """A mixture whose shares do not change."""

    counts: Sequence[int]  # samples of each source
    shares: Shares
    seed: int

    def order(self, start: int, count: int) -> Order:
        weights, limits = self.shares.weights, self.shares.limits
        return sample_order(self.counts, weights, self.seed, start, count, limits)


@dataclass(frozen=True)
class PhaseData:
    """What one phase draws from."""

    corpus: Corpus  # of this phase's sample length
    readers: Sequence[Reader]  # of its sources, in their order
    mixing: Mixing
    seed: int  # of order and masks


@dataclass(frozen=True)
class StepSamples:
    """What a step, or a part of it, is made of, over all ranks, in the order of the mixture."""

    step: int
    phase: int
    corpus: Corpus  # that `order.sample` counts in
    order: Order  # source, sample and epoch of each
    rows: Rows  # their tokens as stored, segments and documents
    keys: NDArray[np.uint64]  # of their masks
    progress: float  # share of the run done before the step, which masking depends on

    def names(self) -> list[str]:
        """Each sample with the documents in it: "wiki/12345: 3f2a..., 88c1...", in hexadecimal."""
        folder = f"{self.corpus.folder.name}/" if "repacked_from" in self.corpus.manifest else ""
        sources = list(self.corpus.sources)
        ends = [0, *np.cumsum(self.rows.counts).tolist()]
        hashes = [f"{document:016x}" for document in self.rows.documents.tolist()]
        return [
            f"{folder}{sources[source]}/{sample}: {', '.join(hashes[first:end])}"
            for source, sample, (first, end) in zip(
                self.order.source.tolist(), self.order.sample.tolist(), pairwise(ends), strict=True
            )
        ]


def phase_data(
    recipe: Recipe, budget: Budget, corpus: Corpus, run: Path, mixing: Mixing | None = None
) -> list[PhaseData]:
    """The data of every phase, packed anew where its samples have another length than those of
    `corpus`; `mixing` takes the place of the first phase's own. All ranks call it.

    Raises RecipeError if a phase has too few samples, DataError if shards are damaged.
    """
    fault: TextmillError | None = None
    if processes.rank() == 0:
        try:
            phases.prepare(corpus, budget, run, executor.num_workers(recipe.launch))
        except TextmillError as error:
            fault = error
        except OSError as error:
            fault = resource_error(error)
            if fault is None:
                raise
    fault = processes.from_rank_0(fault)
    if fault is not None:
        raise fault
    shards.allow_open_files()
    corpora = phases.opened(corpus, budget.lengths, run)
    tables = recipe.train.phases if recipe.train is not None else []
    shares = phases.shares(tables, recipe.mixture, budget, corpora)
    return [
        of_phase(number, corpus, part, recipe.seed, None if number else mixing)
        for number, (corpus, part) in enumerate(zip(corpora, shares, strict=True))
    ]


def of_phase(
    number: int, corpus: Corpus, shares: Shares, seed: int, mixing: Mixing | None = None
) -> PhaseData:
    """The data of one phase, with the mixing of its shares or another."""
    readers = [corpus.reader(name, "train") for name in corpus.sources]
    own = phases.seed_of(seed, number)
    fixed = FixedMixing([reader.num_samples for reader in readers], shares, own)
    return PhaseData(corpus, readers, fixed if mixing is None else mixing, own)


@dataclass(frozen=True)
class MixtureBatches:
    """Training batches from the mixture of all sources."""

    masker: Masker
    phases: Sequence[PhaseData]
    budget: Budget
    rank: int
    world_size: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps that train on at least the tokens asked for, padding included."""
        return self.budget.total_steps

    def share_done(self, step: int) -> float:
        """Share of the run's tokens that the first `step` steps hold, in [0, 1]."""
        return self.budget.share_done(step)

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This rank's micro batches of a step (from 0); steps past the last one go on with the
        last phase. Raises DataError if what they are read from is damaged."""
        portion = self.budget.at(step)
        size = self.budget.micro_size_of(portion.phase)
        starts = range(self.rank * size, portion.num_samples, size * self.world_size)
        return [self.micro_batch(portion, start, size) for start in starts]

    def probe(self, count: int) -> MicroBatch:
        """The first samples of the run, the same on every rank."""
        return self.micro_batch(self.budget.at(0), 0, count)

    def micro_batch(self, portion: Portion, start: int, count: int) -> MicroBatch:
        """The samples `start` to `start + count` of a step."""
        part = self.part(portion, start, count)
        return self.masker.micro_batch(part.rows, part.keys, part.progress)

    def samples(self, step: int) -> StepSamples:
        """All samples of a step (from 0), of all ranks."""
        portion = self.budget.at(step)
        return self.part(portion, 0, portion.num_samples)

    def documents(self, step: int) -> list[str]:
        """Source, sample and document hashes of all samples of a step."""
        return self.samples(step).names()

    def part(self, portion: Portion, start: int, count: int) -> StepSamples:
        """The samples `start` to `start + count` of a step."""
        data = self.phases[portion.phase]
        order = data.mixing.order(portion.first_sample + start, count)
        keys = masking.sample_keys(data.seed, order.epoch, order.source, order.sample)
        rows = gather(data.readers, order)
        progress = self.budget.share_done(portion.step)
        return StepSamples(portion.step, portion.phase, data.corpus, order, rows, keys, progress)


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
