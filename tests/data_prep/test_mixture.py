"""The order of samples: once an epoch, weights everywhere, any start."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.mixture import (
    Mixture,
    Order,
    Shares,
    sample_order,
    source_limits,
    source_weights,
)
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


def test_a_source_with_a_limit_is_seen_so_often_and_no_more() -> None:
    counts, limits = [10, 7], [25, None]  # two and a half epochs of the first
    order = sample_order(counts, [3, 1], 5, 0, 60, limits)
    first = order.source == 0
    assert first[:33].sum() == 25
    assert not first[33:].any()
    seen = np.bincount(order.sample[first], minlength=10)
    assert sorted(seen.tolist()) == [2] * 5 + [3] * 5
    assert order.epoch[first].tolist() == [0] * 10 + [1] * 10 + [2] * 5


def test_the_end_of_a_mixture_with_limits_everywhere() -> None:
    limits = source_limits(Mixture(max_epochs={"a": 2, "b": 0.5}), {"a": 10, "b": 7})
    assert limits == {"a": 20, "b": 3}
    assert Shares((0.9, 0.1), (20, 3)).total == 23
    assert Shares((0.9, 0.1), (20, None)).total is None
    order = sample_order([10, 7], [0.9, 0.1], 0, 0, 23, [20, 3])
    assert np.bincount(order.source).tolist() == [20, 3]
    with pytest.raises(DataError, match=r"past the end .* it has 23 samples; raise max_epochs"):
        sample_order([10, 7], [0.9, 0.1], 0, 20, 4, [20, 3])


def test_a_limit_on_an_unknown_source() -> None:
    with pytest.raises(RecipeError, match=r"max_epochs names wikis; the sources are: wiki"):
        source_limits(Mixture(max_epochs={"wikis": 2}), {"wiki": 9})


@given(counts_and_weights(), st.data())
@SETTINGS
def test_every_sample_as_often_as_the_limits_say(
    given_: tuple[list[int], list[float]], data: st.DataObject
) -> None:
    counts, weights = given_
    limits = [data.draw(st.integers(1, 4 * count)) for count in counts]
    total = sum(limits)
    assert Shares(tuple(weights), tuple(limits)).total == total
    order = sample_order(counts, weights, 3, 0, total, limits)
    assert np.bincount(order.source, minlength=len(counts)).tolist() == limits
    for source, (count, limit) in enumerate(zip(counts, limits, strict=True)):
        seen = np.bincount(order.sample[order.source == source], minlength=count)
        assert (seen >= limit // count).all()
        assert (seen <= -(-limit // count)).all()


def test_a_batch_of_a_billion_samples_costs_what_a_batch_costs() -> None:
    counts = [10**9, 3 * 10**8, 10**6]

    def cost(scale: int) -> int:
        sizes = [count // scale for count in counts]
        sample_order(sizes, [0.6, 0.3, 0.1], 1, 0, 16)  # the period, once
        tracemalloc.start()
        sample_order(sizes, [0.6, 0.3, 0.1], 1, 10**12, 4096)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert cost(1) < 4096 * 300  # bytes: a few arrays of the batch
    assert cost(1) < 1.2 * cost(10)


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (Mixture(), [0.9, 0.1]),
        (Mixture(strategy="temperature", temperature=0.5), [0.75, 0.25]),
        (Mixture(strategy="fixed", weights={"a": 1.0, "b": 3.0}), [0.25, 0.75]),
        (Mixture(strategy="fixed", weights={"a": 2.0, "b": 0.0}), [1.0, 0.0]),
        (Mixture(strategy="online"), [0.9, 0.1]),
        (Mixture(strategy="online", temperature=0.5), [0.75, 0.25]),
        (Mixture(strategy="online", weights={"a": 1.0, "b": 3.0}), [0.25, 0.75]),
    ],
)
def test_source_weights(mixture: Mixture, expected: list[float]) -> None:
    weights = source_weights(mixture, {"a": 900, "b": 100})
    assert list(weights.values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"strategy": "fixed"}, "go together"),
        ({"weights": {"a": 1.0}}, "go together"),
        ({"strategy": "fixed", "weights": {"a": 0.0}}, "all 0"),
        ({"temperature": 0.5}, "`temperature` needs"),
        ({"strategy": "online", "temperature": 0.5, "weights": {"a": 1.0}}, "`temperature` needs"),
        ({"online": {"min_share": 0.1}}, '`online` needs strategy = "online"'),
    ],
)
def test_settings_of_another_strategy_are_refused(given_: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Mixture.model_validate(given_)


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
    assert order.source.dtype == np.dtype(np.int16)
    assert order.sample.dtype == np.dtype(np.int64)
