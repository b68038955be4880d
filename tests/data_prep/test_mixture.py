"""The order of samples: once an epoch, weights everywhere, any start."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.mixture import Mixture, Order, permute, sample_order, source_weights
from runtime.errors import DataError, RecipeError

SETTINGS = settings(max_examples=60, deadline=None)


def test_two_equal_sources_alternate() -> None:
    order = sample_order([10, 10], [0.5, 0.5], seed=0, start=0, count=6)
    assert order.source.tolist() in ([0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0])


def test_three_to_one() -> None:
    order = sample_order([100, 100], [3, 1], seed=0, start=0, count=8)
    assert order.source.tolist().count(1) == 2
    assert 1 in order.source[:4].tolist()
    assert 1 in order.source[4:].tolist()


def test_source_of_weight_0_never_comes() -> None:
    order = sample_order([5, 0, 5], [1, 0, 1], seed=3, start=0, count=50)
    assert set(order.source.tolist()) == {0, 2}


def counts_and_weights() -> st.SearchStrategy[tuple[list[int], list[float]]]:
    one = st.tuples(st.integers(1, 50), st.floats(0.01, 1.0))
    return st.lists(one, min_size=1, max_size=8).map(
        lambda pairs: ([count for count, _ in pairs], [weight for _, weight in pairs])
    )


@given(counts_and_weights(), st.integers(0, 9))
@SETTINGS
def test_every_sample_once_an_epoch(given_: tuple[list[int], list[float]], seed: int) -> None:
    counts, weights = given_
    order = sample_order(counts, weights, seed, 0, 5000)
    for source, count in enumerate(counts):
        mine = order.source == source
        for epoch in range(int(order.epoch[mine].max(initial=0))):  # all but the last are complete
            seen = order.sample[mine & (order.epoch == epoch)]
            assert sorted(seen.tolist()) == list(range(count))


@given(counts_and_weights(), st.integers(0, 10**12), st.integers(1, 300), st.integers(0, 300))
@SETTINGS
def test_any_start_equals_the_slice(
    given_: tuple[list[int], list[float]], start: int, count: int, skip: int
) -> None:
    counts, weights = given_
    whole = sample_order(counts, weights, 7, start, skip + count)
    part = sample_order(counts, weights, 7, start + skip, count)
    for name in ("source", "sample", "epoch"):
        assert (getattr(whole, name)[skip:] == getattr(part, name)).all()


@given(counts_and_weights())
@SETTINGS
def test_weights_hold_over_every_prefix(given_: tuple[list[int], list[float]]) -> None:
    counts, weights = given_
    order = sample_order(counts, weights, 0, 0, 4000)
    taken = np.cumsum(order.source[:, None] == np.arange(len(counts)), axis=0)
    wanted = np.arange(1, 4001)[:, None] * np.array(weights) / sum(weights)
    # One sample for a few sources of similar weight; 1.5 is the worst found by search up to 9.
    assert np.abs(taken - wanted).max() <= (0.51 if len(counts) < 3 else 1.5)


def test_weights_hold_over_global_batches() -> None:
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    order = sample_order([10**6] * 4, weights.tolist(), 0, 0, 256 * 200)
    per_batch = np.stack([np.bincount(b, minlength=4) for b in order.source.reshape(-1, 256)])
    assert np.abs(per_batch - 256 * weights).max() < 2


def test_a_billion_samples() -> None:
    weights = [0.7, 0.2, 0.1]
    order = sample_order([10**9, 10**9, 3], weights, 1, 3 * 10**9, 2000)
    assert order.sample.max() < 10**9
    assert order.sample[order.source == 2].max() < 3
    draws = order.epoch * np.array([10**9, 10**9, 3])[order.source]
    assert abs(int(order.epoch[order.source == 2][0]) * 3 - 3 * 10**8) <= 6
    assert (draws >= 0).all()


def test_epochs_and_sources_are_shuffled_differently() -> None:
    order = sample_order([1000, 1000], [1, 1], 0, 0, 4000)

    def seen(source: int, epoch: int) -> list[int]:
        found: list[int] = order.sample[(order.source == source) & (order.epoch == epoch)].tolist()
        return found

    runs = [seen(0, 0), seen(0, 1), seen(1, 0), sample_of(1)]
    for i, one in enumerate(runs):
        for other in runs[:i]:
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 10  # chance: about 1


def sample_of(seed: int) -> list[int]:
    order = sample_order([1000, 1000], [1, 1], seed, 0, 2000)
    found: list[int] = order.sample[order.source == 0].tolist()
    return found


def test_the_permutation_mixes() -> None:
    keys = np.full(10_000, 99, np.uint64)
    result = permute(np.arange(10_000), 10_000, keys)
    assert sorted(result.tolist()) == list(range(10_000))
    correlation = np.corrcoef(np.arange(10_000), result)[0, 1]
    assert abs(correlation) < 0.03
    neighbours = np.abs(np.diff(result))
    assert abs(neighbours.mean() / (10_000 / 3) - 1) < 0.05  # as for a random order


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (Mixture(), [0.9, 0.1]),
        (Mixture(strategy="temperature", temperature=0.5), [0.75, 0.25]),
        (Mixture(strategy="fixed", weights={"a": 1.0, "b": 3.0}), [0.25, 0.75]),
    ],
)
def test_source_weights(mixture: Mixture, expected: list[float]) -> None:
    weights = source_weights(mixture, {"a": 900, "b": 100})
    assert list(weights.values()) == pytest.approx(expected)


def test_weights_must_name_every_source() -> None:
    with pytest.raises(RecipeError, match=r"missing: \['b'\]"):
        source_weights(Mixture(strategy="fixed", weights={"a": 1.0}), {"a": 9, "b": 1})


def test_a_weighted_source_must_have_samples() -> None:
    mixture = Mixture(strategy="fixed", weights={"a": 1.0, "b": 1.0})
    with pytest.raises(DataError, match="sources b have a weight"):
        source_weights(mixture, {"a": 9, "b": 0})


def test_order_is_typed() -> None:
    order = sample_order([3], [1.0], 0, 0, 3)
    assert isinstance(order, Order)
    assert (order.source.dtype, order.sample.dtype) == (np.int16, np.int64)
