"""Mixtures whose weights change while training: which source each sample comes from.

A history is a list of stretches of samples, each with a schedule of its own, in which every source
goes on with its own draws and with what is left of its cap.

The weights of a stretch are rounded to 1 / 4,096. It starts at the place of its period where the
sources are owed most nearly what the stretches before left owed, so that what is rounded at one
change is made up after it, and a stretch of the same weights goes on as if nothing had happened. In
a stretch, which is a piece of a schedule, each source has its share to within less than two
samples; what that leaves does not add up over many stretches (in tests of hundreds it stays below
two for up to eight sources). A mixture of fixed weights is a history of one stretch.
"""

import bisect
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.schedule import Int64, Schedule, draws_in_period, period, schedule, whole_draws

COARSE = 1 << 12  # samples of the period of changed weights, at most (more for > 256 sources)
OWED = 1 << 30  # what a source is owed is counted in this part of a sample


@dataclass(frozen=True)
class Stretch:
    """Samples between two changes of the weights."""

    start: int  # global number of its first sample
    weights: tuple[float, ...]
    plan: Schedule
    offset: int  # places of the plan that are passed over at its beginning
    before: tuple[int, ...]  # draws of each source in earlier stretches, less those passed over
    owed: tuple[int, ...]  # to each source, beyond what it is owed at that place of the plan

    def draws(self, start: int, count: int) -> tuple[NDArray[np.int16], Int64]:
        """Of the global samples `start` to `start + count`: the source, and its draws before."""
        source, draw = self.plan.draws(start - self.start + self.offset, count)
        return source, draw + np.array(self.before, np.int64)[source]

    def taken(self, end: int) -> tuple[list[int], list[int]]:
        """Draws of each source before the global sample `end`, and what each is owed there."""
        place = end - self.start + self.offset
        if not self.plan.phases:  # every source had reached its limit
            return list(self.before), [0] * len(self.before)
        phase = self.plan.phase_at(place)
        repeat, within = divmod(place - phase.start, phase.period)
        inside = in_places(phase.draws, within)
        taken = [
            earlier + in_phases + repeat * each + some
            for earlier, in_phases, each, some in zip(
                self.before, phase.before, phase.draws, inside, strict=True
            )
        ]
        owed = owed_at(phase.draws, within, inside)
        if phase is self.plan.phases[0]:
            owed = [now + before for now, before in zip(owed, self.owed, strict=True)]
        return taken, owed


@dataclass(frozen=True)
class History:
    """All stretches of a run so far; the last one has no end yet."""

    limits: tuple[int | None, ...]  # samples that may be drawn of each source; None: any number
    stretches: tuple[Stretch, ...]

    @classmethod
    def begin(cls, weights: tuple[float, ...], limits: tuple[int | None, ...]) -> "History":
        """One stretch: a mixture of fixed weights."""
        zeros = (0,) * len(weights)
        return cls(limits, (Stretch(0, weights, schedule(weights, limits), 0, zeros, zeros),))

    @property
    def total(self) -> int | None:
        """How many samples there are; None, without an end."""
        last = self.stretches[-1]
        return None if last.plan.total is None else last.start - last.offset + last.plan.total

    def then(self, start: int, weights: tuple[float, ...]) -> "History":
        """This history with other weights (any scale, rounded to 1 / COARSE) from a sample on."""
        last = self.stretches[-1]
        if start <= last.start:
            raise ValueError(f"weights from sample {start} on, but they changed at {last.start}")
        if self.total is not None and start >= self.total:
            return self  # nothing is left that weights could share
        taken, owed = last.taken(start)
        left = [
            None if limit is None else limit - gone
            for limit, gone in zip(self.limits, taken, strict=True)
        ]
        plan, offset, skipped = joined(weights, left, owed)
        there = owed_at(plan.phases[0].draws, offset, skipped)
        stretch = Stretch(
            start,
            weights,
            plan,
            offset,
            tuple(gone - some for gone, some in zip(taken, skipped, strict=True)),
            tuple(now - some for now, some in zip(owed, there, strict=True)),
        )
        return History(self.limits, (*self.stretches, stretch))

    def draws(self, start: int, count: int) -> tuple[NDArray[np.int16], Int64]:
        """Of the samples `start` to `start + count`: the source, and how many it gave before."""
        number = bisect.bisect_right(self.stretches, start, key=lambda stretch: stretch.start)
        source, draw = np.empty(count, np.int16), np.empty(count, np.int64)
        at, end = start, start + count
        while at < end:
            following = self.stretches[number : number + 1]
            until = min([end, *(stretch.start for stretch in following)])
            part = slice(at - start, until - start)
            source[part], draw[part] = self.stretches[number - 1].draws(at, until - at)
            at, number = until, number + 1
        return source, draw


def joined(
    weights: tuple[float, ...], left: list[int | None], owed: list[int]
) -> tuple[Schedule, int, list[int]]:
    """The schedule of a stretch, the place where it begins, and the draws of the places before."""
    live = tuple(
        0.0 if amount == 0 else weight for weight, amount in zip(weights, left, strict=True)
    )
    if not any(live):
        raise ValueError(f"none of the weights {weights} is of a source with samples left")
    shares = np.array(live) / math.fsum(live)
    weights = tuple(map(float, whole_draws(shares, max(COARSE, 16 * len(live)))))
    draws = draws_in_period(weights)
    offset = nearest_place(draws, owed)
    skipped = in_places(draws, offset)
    available = tuple(
        None if amount is None else amount + some
        for amount, some in zip(left, skipped, strict=True)
    )
    plan = schedule(weights, available)
    ends = [phase.start for phase in plan.phases[1:2]]
    if plan.phases[0].draws != draws or any(end <= offset for end in ends):
        # A source runs out within a period: nothing can be passed over.
        return schedule(weights, tuple(left)), 0, [0] * len(left)
    return plan, offset, skipped


def in_places(draws: tuple[int, ...], place: int) -> list[int]:
    """Draws of each source in the first places of a period."""
    of_place, _ = period(draws)
    found: list[int] = np.bincount(of_place[:place], minlength=len(draws)).tolist()
    return found


def owed_at(draws: tuple[int, ...], place: int, taken: list[int]) -> list[int]:
    """What each source lacks of its share after so many places of a period; in whole 1 / OWED,
    so that every machine finds the same."""
    length = sum(draws)
    return [
        place * each * OWED // length - some * OWED for each, some in zip(draws, taken, strict=True)
    ]


def nearest_place(draws: tuple[int, ...], owed: list[int]) -> int:
    """The place of a period where what sources are owed differs least from this, at worst."""
    of_place, _ = period(draws)
    length = len(of_place)
    place = np.arange(length)
    worst = np.zeros(length, np.int64)
    for source, each in enumerate(draws):
        before = np.cumsum(of_place == source) - (of_place == source)
        here = place * each * OWED // length - before * OWED
        np.maximum(worst, np.abs(here - owed[source]), out=worst)
    return int(np.argmin(worst))
