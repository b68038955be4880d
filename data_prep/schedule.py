"""Which source each sample of a mixture comes from: exact shares, found without counting.

A phase is a stretch of samples with the same sources. Its weights become whole numbers of draws in
a period of at most 131,072 samples, which is worked out once and repeats. In a period, sources are
chosen by Tijdeman's algorithm ("The chairman assignment problem", 1980): the j-th draw of a source
may come as soon as the source would else be 1 / (2S - 2) behind its share, must come before it is
1 - 1 / (2S - 2) behind, and the draw that must come first is taken. So after any number of samples
each of the S sources has its share to within less than one sample.

The length of a period is the one, of 65,537 to 131,072, whose shares are nearest to the weights. A
share differs from its weight by less than 1 / 65,536 (weights that are multiples of a common
fraction above that: not at all), for ever. Every source has at least one draw a period: a weight
below that is raised, at the expense of the largest.

A source with a cap is used up at a known sample: whole periods as long as it lasts, then one
shorter period that ends with its last sample. From there on the others share what it had, in
proportion. Weights that change while training: `data_prep/history.py`.
"""

import bisect
import heapq
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PERIOD = 1 << 17  # samples at most
ENDLESS = 1 << 80  # samples of a source without a limit

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Phase:
    """A stretch of the mixture in which a period repeats."""

    start: int  # global number of its first sample
    draws: tuple[int, ...]  # of each source in a period
    before: tuple[int, ...]  # draws of each source in earlier phases

    @property
    def period(self) -> int:
        return sum(self.draws)


@dataclass(frozen=True)
class Schedule:
    """The phases of a mixture. `total` is how many samples there are: None, without an end."""

    phases: tuple[Phase, ...]
    total: int | None

    def draws(self, start: int, count: int) -> tuple[NDArray[np.int16], Int64]:
        """Of the samples `start` to `start + count`: the source, and how many it gave before."""
        source = np.empty(count, np.int16)
        draw = np.empty(count, np.int64)
        starts = [phase.start for phase in self.phases]
        ends = [*starts[1:], start + count]
        for phase, end in zip(self.phases, ends, strict=True):
            first, last = max(start, phase.start), min(start + count, end)
            if first < last:
                part = slice(first - start, last - start)
                repeat, place = np.divmod(
                    np.arange(first - phase.start, last - phase.start), phase.period
                )
                of_place, rank = period(phase.draws)
                chosen = source[part] = of_place[place]
                each, earlier = np.array(phase.draws), np.array(phase.before)
                draw[part] = earlier[chosen] + repeat * each[chosen] + rank[place]
        return source, draw

    def phase_at(self, place: int) -> Phase:
        """The phase in which the sample after the first `place` ones stands."""
        number = bisect.bisect_right(self.phases, place, key=lambda phase: phase.start)
        return self.phases[number - 1]


@lru_cache(maxsize=32)
def schedule(weights: tuple[float, ...], available: tuple[int | None, ...]) -> Schedule:
    """The phases of a mixture of sources with these weights (any scale), of which so many samples
    may be drawn (None: any number)."""
    left = [ENDLESS if amount is None else amount for amount in available]
    before = [0] * len(weights)
    phases: list[Phase] = []
    start = 0

    def add(draws: tuple[int, ...], repeats: int) -> None:
        nonlocal start
        phases.append(Phase(start, draws, tuple(before)))
        start += sum(draws) * repeats
        for source, each in enumerate(draws):
            before[source] += each * repeats
            left[source] -= each * repeats

    while any(live := [weight > 0 and left[i] > 0 for i, weight in enumerate(weights)]):
        draws = draws_in_period(
            tuple(weight if alive else 0.0 for weight, alive in zip(weights, live, strict=True))
        )
        used = [source for source, each in enumerate(draws) if each]
        repeats = min(left[source] // draws[source] for source in used)
        if all(available[source] is None for source in used):
            phases.append(Phase(start, draws, tuple(before)))
            return Schedule(tuple(phases), None)
        if repeats:
            add(draws, repeats)
        first = min(used, key=lambda source: (left[source] / draws[source], source))
        rest, each = left[first], draws[first]
        if rest:
            add(
                tuple(
                    min(left[source], (2 * rest * other + each) // (2 * each))
                    for source, other in enumerate(draws)
                ),
                1,
            )
    return Schedule(tuple(phases), start)


def draws_in_period(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Whole numbers in proportion to the weights as nearly as a sum of at most PERIOD allows."""
    used = np.flatnonzero(np.array(weights) > 0)
    shares = np.array(weights)[used] / math.fsum(weights)
    lengths = np.arange(PERIOD // 2 + 1, PERIOD + 1)
    error = np.zeros(len(lengths))
    for share in shares:
        wanted = lengths * share
        np.maximum(error, np.abs(np.rint(wanted) - wanted) / lengths, out=error)
    # Of equal shares the shortest; differences below 2^-40 are rounding.
    length = int(lengths[np.argmax(error <= error.min() + 2.0**-40)])
    draws = whole_draws(shares, length)
    common = math.gcd(*draws.tolist())
    result = np.zeros(len(weights), np.int64)
    result[used] = draws // common
    return tuple(result.tolist())


def whole_draws(shares: NDArray[np.float64], length: int) -> Int64:
    """Whole numbers in proportion to shares, summing to `length`; at least 1 where a share is."""
    wanted = length * shares
    draws = np.maximum(shares > 0, np.floor(wanted)).astype(np.int64)
    missing = length - int(draws.sum())
    if missing >= 0:
        draws[np.argsort(draws - wanted, kind="stable")[:missing]] += 1  # to the largest rests
    else:
        draws[np.argmax(draws)] += missing  # what others were raised by
    return draws


@lru_cache(maxsize=8)
def period(draws: tuple[int, ...]) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """The source at each place of a period, and its draws before that place."""
    length = sum(draws)
    used = [source for source, each in enumerate(draws) if each]
    slack = max(1, 2 * len(used) - 2)
    # The j-th draw of a source with d of P may come at place k (from 1) if k d / P - j >= 1 / slack
    # and must have come when k d / P - j >= 1 - 1 / slack.
    numbers = [np.arange(draws[source], dtype=np.int64) for source in used]
    release = np.concatenate(
        [
            -(-(j * slack + 1) * length // (slack * draws[i]))
            for i, j in zip(used, numbers, strict=True)
        ]
    )
    due = np.concatenate(
        [
            -(-(j * slack + slack - 1) * length // (slack * draws[i]))
            for i, j in zip(used, numbers, strict=True)
        ]
    )
    source = np.concatenate([np.full(draws[i], i, np.int64) for i in used])
    order = np.argsort(release, kind="stable")
    codes = (due * len(draws) + source)[order].tolist()
    opens = np.searchsorted(release[order], np.arange(1, length + 2)).tolist()
    heap: list[int] = []
    chosen = []
    for begin, end in pairwise(opens):
        for code in codes[begin:end]:
            heapq.heappush(heap, code)
        chosen.append(heapq.heappop(heap) % len(draws))
    of_place = np.array(chosen, np.int16)
    rank = np.empty(length, np.int32)
    for i in used:
        rank[of_place == i] = np.arange(draws[i])
    return of_place, rank
