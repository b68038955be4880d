"""What every step of a run takes: a pure function of the step, whatever the number of ranks.

The budget of a run is its tokens, padding included. Two things change on the way, each at the first
step that begins at or after its share of them:

- The phase. Each has its own order of samples, which begins with sample 0, and may have samples of
  another length; then a step takes fewer or more of them, so that its tokens stay what they were.
- The batch. It begins with `ramp_from` samples and doubles up to `global_batch_size`; each size
  before the last gets an equal part of `ramp_share` of the tokens. Early gradients are large
  against their noise, so small batches waste little and give more updates (McCandlish et al. 2018,
  "An Empirical Model of Large-Batch Training"; Warner et al. 2024 warm up ModernBERT's batch).
  Doublings, because every batch then stays a multiple of micro batch size x ranks if the first is.

Between two changes lies a stretch of equal steps; whatever is asked of a step is computed from its
stretch. The last stretch has no end: a run that went back passes over data and takes more steps of
the order than it counts.

Imports no torch, so that a plan can tell all of this.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from pretrain.config import Train
from runtime.errors import RecipeError


@dataclass(frozen=True)
class Portion:
    """What one step takes; of a stretch, what its first step takes."""

    step: int  # from 0
    phase: int  # from 0
    first_sample: int  # in the order of the phase
    num_samples: int  # over all ranks
    tokens_before: int  # of the run, padding included
    num_tokens: int


@dataclass(frozen=True)
class Budget:
    """The steps of a run."""

    stretches: tuple[Portion, ...]  # in order; each ends where the next begins
    lengths: tuple[int, ...]  # of each phase: tokens a sample
    batch_sizes: tuple[int, ...]  # growing, in samples of the shards' own length
    micro_size: int  # samples per rank per forward, of the shards' own length
    sequence_length: int  # the shards' own
    total_steps: int

    def at(self, step: int) -> Portion:
        """What a step (from 0) takes. Past the last step the last stretch goes on."""
        found = bisect_right(self.stretches, step, key=lambda stretch: stretch.step) - 1
        first = self.stretches[found]
        more = step - first.step
        return replace(
            first,
            step=step,
            first_sample=first.first_sample + more * first.num_samples,
            tokens_before=first.tokens_before + more * first.num_tokens,
        )

    @property
    def total_tokens(self) -> int:
        """Tokens of all steps, padding included: what was asked for, rounded up to whole steps."""
        return self.at(self.total_steps).tokens_before

    @property
    def longest(self) -> int:
        """Tokens of the longest sample of any phase."""
        return max(self.lengths)

    def share_done(self, step: int) -> float:
        """Share of the tokens that the first `step` steps hold, in [0, 1]."""
        return min(1.0, self.at(step).tokens_before / self.total_tokens)

    def micro_size_of(self, phase: int) -> int:
        """Samples per rank per forward in a phase: always as many tokens."""
        return self.micro_size * self.sequence_length // self.lengths[phase]

    def first_step(self, phase: int) -> int:
        return next(stretch.step for stretch in self.stretches if stretch.phase == phase)

    def end_step(self, phase: int) -> int:
        """The step after the last one of a phase."""
        later = (stretch.step for stretch in self.stretches if stretch.phase > phase)
        return next(later, self.total_steps)

    def num_samples(self, phase: int) -> int:
        """Samples that all steps of a phase take."""
        return self.end_sample(self.end_step(phase) - 1)

    def steps_with(self, phase: int, num_samples: int) -> int:
        """Steps of a phase that so many samples are enough for."""
        steps = range(self.first_step(phase), self.end_step(phase))
        return bisect_right(steps, num_samples, key=lambda step: self.end_sample(step))

    def end_sample(self, step: int) -> int:
        """The sample after the last one of a step, in the order of its phase."""
        portion = self.at(step)
        return portion.first_sample + portion.num_samples

    def largest_batch(self, phase: int) -> int:
        """Samples of the largest step of a phase."""
        return max(s.num_samples for s in self.stretches if s.phase == phase)

    def lines(self) -> list[str]:
        """For people: steps and tokens, and what changes on the way."""
        sizes = [size * self.sequence_length for size in self.batch_sizes]
        a_step = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
        lines = [f"steps   {self.total_steps:,} of {a_step} tokens = {self.total_tokens:,}"]
        if len(self.stretches) > 1:
            lines += [
                f"        from step {part.step:,}: phase {part.phase}, a step takes "
                f"{part.num_samples:,} samples of {self.lengths[part.phase]:,} tokens"
                for part in self.stretches
            ]
        return lines

    def check_ranks(self, world_size: int) -> None:
        """Raise RecipeError if the smallest batch cannot be shared out evenly among so many ranks
        though the largest can."""
        portion = self.micro_size * world_size
        if self.batch_sizes[0] % portion:
            fitting = next((size for size in self.batch_sizes if not size % portion), None)
            raise RecipeError(
                f"train.ramp_from ({self.batch_sizes[0]}) must be a multiple of "
                f"train.micro_batch_size x world size = {self.micro_size} x {world_size} = "
                f"{portion}; nearest: {fitting or portion}"
            )


def budget_of(train: Train, sequence_length: int) -> Budget:
    """The budget of a recipe for shards whose samples have so many tokens. Raises RecipeError if a
    phase or a batch size would have no step, or would not hold whole samples."""
    lengths = lengths_of(train, sequence_length)
    sizes = batch_sizes(train)
    ramp, changes = cuts(train, len(sizes) - 1)
    stretches: list[Portion] = []
    taken = [0] * len(lengths)  # samples of each phase
    step = tokens = 0
    while tokens < train.total_tokens:
        phase, size = bisect_right(changes, tokens), sizes[bisect_right(ramp, tokens)]
        end = min(cut for cut in (*ramp, *changes, Fraction(train.total_tokens)) if cut > tokens)
        num_tokens = size * sequence_length
        num_samples = num_tokens // lengths[phase]
        stretches.append(Portion(step, phase, taken[phase], num_samples, tokens, num_tokens))
        steps = math.ceil((end - tokens) / num_tokens)
        step, tokens = step + steps, tokens + steps * num_tokens
        taken[phase] += steps * num_samples
    check_phases(train, {stretch.phase for stretch in stretches}, sequence_length)
    check_ramp(train, {stretch.num_tokens // sequence_length for stretch in stretches}, sizes)
    return Budget(tuple(stretches), lengths, sizes, train.micro_batch_size, sequence_length, step)


def batch_sizes(train: Train) -> tuple[int, ...]:
    """Every size that the batch has on the way, growing, the last one for most of the run."""
    sizes = [train.ramp_from or train.global_batch_size]
    while sizes[-1] < train.global_batch_size:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def cuts(train: Train, doublings: int) -> tuple[list[Fraction], list[Fraction]]:
    """The tokens before which each batch size but the last, and each phase but the last, ends."""
    total = train.total_tokens
    ramp = [exactly(train.ramp_share) * total * (k + 1) / doublings for k in range(doublings)]
    shares = accumulate(exactly(phase.share) for phase in train.phases[:-1])
    return ramp, [share * total for share in shares]


def exactly(share: float) -> Fraction:
    """The number as it is written in the recipe: 0.1 is a tenth."""
    return Fraction(repr(share))


def lengths_of(train: Train, sequence_length: int) -> tuple[int, ...]:
    """Tokens a sample of every phase. Raises RecipeError if micro batches would not stay whole."""
    micro_tokens = train.micro_batch_size * sequence_length
    lengths = [phase.sequence_length or sequence_length for phase in train.phases]
    for number, length in enumerate(lengths):
        if micro_tokens % length:
            whole = [size for size in range(1, micro_tokens + 1) if not micro_tokens % size]
            place = bisect_right(whole, length)
            nearest = " or ".join(map(str, whole[max(0, place - 1) : place + 1]))
            raise RecipeError(
                f"train.phases.{number}.sequence_length ({length}) must divide the tokens of a "
                f"micro batch, which stay the same in all phases: train.micro_batch_size x the "
                f"shards' length = {train.micro_batch_size} x {sequence_length} = {micro_tokens}; "
                f"nearest: {nearest}"
            )
    return tuple(lengths) or (sequence_length,)


def check_phases(train: Train, seen: set[int], sequence_length: int) -> None:
    """Raise RecipeError for a phase without a step."""
    for number, phase in enumerate(train.phases):
        if number not in seen:
            step = train.global_batch_size * sequence_length
            raise RecipeError(
                f"train.phases.{number} has no step: share ({phase.share}) x train.total_tokens "
                f"({train.total_tokens:,}) is less than the {step:,} tokens of a step; raise share "
                f"to at least {step / train.total_tokens:.2g}, or leave the phase out"
            )


def check_ramp(train: Train, seen: set[int], sizes: tuple[int, ...]) -> None:
    """Raise RecipeError for a batch size without a step."""
    missing = [size for size in sizes if size not in seen]
    if missing:
        raise RecipeError(
            f"no step has a batch of {' or '.join(map(str, missing))} samples: train.ramp_share "
            f"({train.ramp_share}) of train.total_tokens ({train.total_tokens:,}) is shared out "
            f"among {len(sizes) - 1} batch sizes from train.ramp_from ({train.ramp_from}) to "
            f"{sizes[-2]}, and the rest is for {sizes[-1]}; raise ramp_from or total_tokens, or "
            "change ramp_share"
        )
