"""Weights that change: each sample once an epoch, shares kept, limits kept, nothing remembered."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.history import COARSE, History, nearest_place, owed_at
from data_prep.mixture import piecewise_order, sample_order
from data_prep.schedule import period
from runtime.errors import DataError

SETTINGS = settings(max_examples=40, deadline=None)
Changes = list[tuple[int, tuple[float, ...]]]  # samples since the last change, new weights


def history_of(
    weights: tuple[float, ...], changes: Changes, limits: tuple[int | None, ...] | None = None
) -> History:
    history = History.begin(weights, limits or (None,) * len(weights))
    start = 0
    for length, changed in changes:
        start += length
        history = history.then(start, changed)
    return history


Draws = tuple[NDArray[np.int16], NDArray[np.int64]]


def assert_equal(found: Draws, expected: Draws) -> None:
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()


def changes(sources: int) -> st.SearchStrategy[Changes]:
    weights = st.tuples(*[st.floats(0.01, 1.0)] * sources)
    return st.lists(st.tuples(st.integers(1, 300), weights), max_size=8)


def test_by_hand() -> None:
    """Half and half, then three to one: the same draws go on, counted from what was drawn."""
    history = history_of((1.0, 1.0), [(4, (3.0, 1.0))])
    source, draw = history.draws(0, 12)
    assert np.bincount(source[:4]).tolist() == [2, 2]
    assert np.bincount(source[4:8]).tolist() == [3, 1]
    assert np.bincount(source[8:]).tolist() == [3, 1]
    assert draw[source == 0].tolist() == list(range(8))
    assert draw[source == 1].tolist() == list(range(4))


def test_the_place_that_owes_most_nearly_the_same() -> None:
    source, _ = period((2, 1))
    assert source.tolist() == [0, 1, 0]
    for place in range(3):
        taken = np.bincount(source[:place], minlength=2).tolist()
        assert nearest_place((2, 1), owed_at((2, 1), place, taken)) == place


@pytest.mark.parametrize("start", [1, 7, 640, 131_072 + 5])
def test_the_same_weights_go_on_as_if_nothing_had_happened(start: int) -> None:
    weights = (0.5, 0.25, 0.125, 0.125)
    straight = History.begin(weights, (None,) * 4)
    changed = straight.then(start, weights).then(start + 100, weights)
    assert_equal(changed.draws(0, start + 500), straight.draws(0, start + 500))


@given(st.tuples(*[st.floats(0.01, 1.0)] * 4), changes(4), st.integers(0, 3))
@SETTINGS
def test_every_sample_once_an_epoch_across_changes(
    weights: tuple[float, ...], changed: Changes, seed: int
) -> None:
    counts = [40, 7, 300, 1]
    order = piecewise_order(counts, history_of(weights, changed), seed, 0, 3000)
    for source, count in enumerate(counts):
        mine = order.source == source
        for epoch in range(int(order.epoch[mine].max(initial=0))):  # all but the last are complete
            seen = order.sample[mine & (order.epoch == epoch)]
            assert sorted(seen.tolist()) == list(range(count))


@given(changes(3), st.integers(0, 2500), st.integers(0, 500))
@SETTINGS
def test_any_start_equals_the_slice(changed: Changes, start: int, count: int) -> None:
    history = history_of((0.6, 0.3, 0.1), changed, (900, None, 70))
    counts = [300, 200, 50]
    whole = piecewise_order(counts, history, 7, 0, 3000)
    part = piecewise_order(counts, history, 7, start, count)
    for name in ("source", "sample", "epoch"):
        assert (getattr(whole, name)[start : start + count] == getattr(part, name)).all()


@given(changes(3), st.integers(0, 400))
@SETTINGS
def test_what_came_before_a_change_is_not_touched_by_it(changed: Changes, more: int) -> None:
    """So a step may be prepared before the weights of a later one are known."""
    history = history_of((0.6, 0.3, 0.1), changed)
    start = history.stretches[-1].start + 1 + more
    later = history.then(start, (0.1, 0.1, 0.8))
    assert_equal(later.draws(0, start), history.draws(0, start))


def test_without_a_change_the_order_is_that_of_fixed_weights() -> None:
    counts, weights, limits = [100, 30], (0.7, 0.3), (250, None)
    fixed = sample_order(counts, weights, 3, 50, 900, limits)
    found = piecewise_order(counts, History.begin(weights, limits), 3, 50, 900)
    for name in ("source", "sample", "epoch"):
        assert (getattr(fixed, name) == getattr(found, name)).all()


def deviations(history: History, source: NDArray[np.int16]) -> NDArray[np.float64]:
    """(samples, S) how far every source is from the sum of its shares after each sample."""
    num_sources = len(history.limits)
    expected = np.zeros((len(source), num_sources))
    for stretch in history.stretches:
        draws = np.array(stretch.plan.phases[0].draws)
        expected[stretch.start :] = draws / draws.sum()
    taken = source[:, None] == np.arange(num_sources)
    found: NDArray[np.float64] = np.cumsum(taken - expected, axis=0)
    return found


@pytest.mark.parametrize("sources", [2, 4, 8])
def test_rounding_does_not_add_up_over_hundreds_of_changes(sources: int) -> None:
    rng = np.random.default_rng(sources)
    changed = [
        (int(rng.choice([8, 30, 100])), tuple(rng.uniform(0.02, 1, sources).tolist()))
        for _ in range(200)
    ]
    history = history_of(tuple(rng.uniform(0.1, 1, sources).tolist()), changed)
    source, _ = history.draws(0, history.stretches[-1].start + 500)
    found = deviations(history, source)
    assert np.abs(found).max() < 2
    starts = [stretch.start for stretch in history.stretches]
    at_changes = np.vstack([np.zeros(sources), found[np.array(starts[1:]) - 1]])
    for here, there in pairwise(at_changes):
        assert np.abs(there - here).max() < 2  # of every stretch, as its proof says


def test_a_share_below_a_sample_a_stretch_is_drawn_all_the_same() -> None:
    weights = (0.97, 0.03)
    history = history_of(weights, [(10, weights)] * 100)
    source, _ = history.draws(0, 1000)
    assert 29 <= (source == 1).sum() <= 31


@given(changes(3), st.tuples(*[st.integers(1, 400)] * 3))
@SETTINGS
def test_limits_hold_across_changes(changed: Changes, limits: tuple[int, int, int]) -> None:
    history = history_of((0.6, 0.3, 0.1), changed, limits)
    assert history.total == sum(limits)
    source, draw = history.draws(0, sum(limits))
    for one, limit in enumerate(limits):
        assert draw[source == one].tolist() == list(range(limit))
    with pytest.raises(DataError, match="past the end of the mixture"):
        piecewise_order([400] * 3, history, 0, sum(limits), 1)


def test_one_source_without_end_takes_what_the_others_leave() -> None:
    history = history_of((0.5, 0.5), [(100, (0.9, 0.1)), (50, (0.9, 0.1))], (80, None))
    assert history.total is None
    source, draw = history.draws(0, 1000)
    assert (source == 0).sum() == 80
    assert not (source[200:] == 0).any()
    assert draw[source == 1].tolist() == list(range(920))


def test_weights_are_rounded_coarsely_and_none_is_lost() -> None:
    history = history_of((0.5, 0.5, 0.0), [(10, (1.0, 1e-9, 0.0))])
    assert history.stretches[1].plan.phases[0].draws == (COARSE - 1, 1, 0)


def test_changes_come_in_order_and_leave_a_source() -> None:
    history = history_of((0.5, 0.5), [(10, (0.9, 0.1))])
    with pytest.raises(ValueError, match="they changed at 10"):
        history.then(10, (0.5, 0.5))
    gone = history_of((0.5, 0.5), [], (4, None))
    with pytest.raises(ValueError, match="samples left"):
        gone.then(20, (1.0, 0.0))
