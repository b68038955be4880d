"""Shares: exact after every sample, wherever one looks, with sources that run out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.schedule import PERIOD, draws_in_period, period, schedule

SETTINGS = settings(max_examples=40, deadline=None)
Weights = tuple[float, ...]
DRIFT = 2 / PERIOD  # share and weight differ by less


def endless(weights: Weights) -> tuple[None, ...]:
    return (None,) * len(weights)


def random_weights(number: int) -> Weights:
    """2 to 64 weights of very different sizes."""
    rng = np.random.default_rng(number)
    return tuple((rng.uniform(0.02, 1, rng.integers(2, 65)) ** rng.choice([1, 2])).tolist())


def deviation(source: NDArray[np.int16], before: NDArray[np.int64], start: int,
              shares: NDArray[np.float64]) -> float:  # fmt: skip
    """How far a source is from its share at worst, after any of these samples. `before` are the
    draws of each source before the first of them, at global number `start`."""
    worst = 0.0
    number = np.arange(1, len(source) + 1)
    for one, share in enumerate(shares):
        taken = before[one] - start * share + np.cumsum(source == one) - number * share
        worst = max(worst, float(np.abs(taken).max(initial=0)))
    return worst


def test_by_hand() -> None:
    assert draws_in_period((0.5, 0.3, 0.15, 0.05)) == (10, 6, 3, 1)
    assert draws_in_period((3, 0, 1)) == (3, 0, 1)
    source, rank = period((2, 1))
    assert (source.tolist(), rank.tolist()) == ([0, 1, 0], [0, 0, 1])


@pytest.mark.parametrize("number", range(12))
def test_every_prefix_holds_every_share_to_within_one_sample(number: int) -> None:
    weights = random_weights(number)
    draws = draws_in_period(weights)
    shares = np.array(draws) / sum(draws)
    assert np.abs(shares - np.array(weights) / sum(weights)).max() < DRIFT
    source, draw = schedule(weights, endless(weights)).draws(0, 2 * PERIOD + 100)
    assert deviation(source, np.zeros(len(weights)), 0, shares) < 1
    for one in range(len(weights)):
        assert (draw[source == one] == np.arange((source == one).sum())).all()


@pytest.mark.parametrize("number", range(6))
def test_far_away_too(number: int) -> None:
    weights = random_weights(number)
    draws = draws_in_period(weights)
    start = 10**12 // sum(draws) * sum(draws)  # exact in integers, so no rounding in the test
    source, draw = schedule(weights, endless(weights)).draws(start, PERIOD)
    for one, each in enumerate(draws):
        assert draw[source == one][0] == start // sum(draws) * each
    assert deviation(source, np.zeros(len(weights)), 0, np.array(draws) / sum(draws)) < 1


@given(st.integers(0, 10**6), st.integers(1, 4096))
@SETTINGS
def test_every_global_batch_holds_its_shares(start: int, size: int) -> None:
    weights = (0.5, 0.3, 0.15, 0.05)
    source, _ = schedule(weights, endless(weights)).draws(start, size)
    taken = np.bincount(source, minlength=4)
    assert np.abs(taken - size * np.array(weights)).max() < 2  # one at either end


def test_a_weight_below_one_sample_a_period_is_raised() -> None:
    weights = (1.0, *[1e-9] * 20)
    draws = draws_in_period(weights)
    assert set(draws[1:]) == {1}
    assert sum(draws) <= PERIOD


def test_a_used_up_source_leaves_its_share_to_the_others() -> None:
    plan = schedule((2.0, 1.0, 1.0), (100_000, None, None))
    source, draw = plan.draws(0, 300_000)
    assert (source == 0).sum() == 100_000
    end = int(np.flatnonzero(source == 0)[-1])
    assert end in range(199_990, 200_010)
    rest = np.bincount(source[end + 1 :], minlength=3)
    assert rest[0] == 0
    assert abs(int(rest[1]) - int(rest[2])) <= 1
    assert draw[source == 1].tolist() == list(range((source == 1).sum()))


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.integers(1, 3000)), min_size=1, max_size=9),
    st.integers(0, 5000),
)
@SETTINGS
def test_limits_are_used_up_exactly(pairs: list[tuple[float, int]], start: int) -> None:
    weights, limits = (tuple(column) for column in zip(*pairs, strict=True))
    plan = schedule(weights, limits)
    assert plan.total == sum(limits)
    source, draw = plan.draws(0, sum(limits))
    for one, limit in enumerate(limits):
        assert draw[source == one].tolist() == list(range(limit))
    start = min(start, sum(limits))
    again, _ = plan.draws(start, sum(limits) - start)
    assert (again == source[start:]).all()
    # While all sources last, they have their shares; the last period before an end is rounded.
    lasting = int(min(limit / weight for limit, weight in zip(limits, weights, strict=True))
                  * sum(weights))  # fmt: skip
    shares = np.array(weights) / sum(weights)
    drift = 1 + len(limits) + lasting * DRIFT
    assert deviation(source[:lasting], np.zeros(len(limits)), 0, shares) < drift
