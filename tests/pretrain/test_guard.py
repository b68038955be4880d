"""The guard: what is refused, from when on, and that a resumed guard decides the same."""

import json
import math
import random

import pytest

from pretrain.config import Guard as Table
from pretrain.guard import Guard


def guard_after(norms: list[float], **table: object) -> Guard:
    guard = Guard(Table(**table))  # type: ignore[arg-type]
    for norm in norms:
        assert guard.accepts(1.0, norm), guard.refused
    return guard


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, math.inf)]
)
def test_what_is_not_finite_is_refused_from_the_first_step_on(loss: float, norm: float) -> None:
    guard = Guard(Table())
    assert not guard.accepts(loss, norm)
    assert guard.refused == f"loss {loss}, gradient norm {norm}"
    assert guard.in_a_row == 1
    assert guard.accepts(1.0, 1.0)
    assert guard.refused is None
    assert guard.in_a_row == 0


def test_a_spike_is_six_deviations_above_the_mean() -> None:
    # 1 and 3 in turn: mean 2, deviation sqrt(8 / 7) = 1.069 -> limit 8.414
    norms = [1.0, 3.0] * 4
    assert guard_after(norms, window_steps=8).limit() == pytest.approx(2 + 6 * math.sqrt(8 / 7))
    assert guard_after(norms, window_steps=8).accepts(1.0, 8.41)
    guard = guard_after(norms, window_steps=8)
    assert not guard.accepts(1.0, 8.42)
    assert guard.refused == (
        "gradient norm 8.42 is a spike: 8.414 is 6 deviations above the mean of the last 8 updates"
    )


def test_spikes_are_looked_for_once_half_the_window_is_known() -> None:
    assert guard_after([1.0] * 63).accepts(1.0, 1000.0)
    assert not guard_after([1.0] * 64).accepts(1.0, 1000.0)
    assert guard_after([1.0] * 500, spike_sigmas=None).accepts(1.0, 1e30)


def test_a_constant_norm_is_no_trap() -> None:
    """Without a floor every rise after a window of equal norms would be refused for ever."""
    assert guard_after([2.0] * 128).limit() == pytest.approx(2.0 * 1.6)
    assert guard_after([2.0] * 128).accepts(1.0, 3.1)
    assert guard_after([0.0] * 128).accepts(1.0, 0.0)


def test_old_norms_leave_the_window_and_those_not_finite_never_enter() -> None:
    guard = guard_after([1.0, 1.2] * 4, window_steps=8)
    assert not guard.accepts(1.0, math.inf)
    assert not guard.accepts(math.nan, math.nan)
    for _ in range(8):
        assert guard.accepts(1.0, 1.5)
    assert list(guard.norms) == [1.5] * 8


@pytest.mark.parametrize("level", [3.0, 5.0, 100.0, 1e6])
def test_norms_that_have_risen_for_good_are_learnt(level: float) -> None:
    """Kept out of the window they would be refused for ever."""
    guard = guard_after([1.0, 1.2] * 64)
    refusals = 0
    while not guard.accepts(1.0, level):
        refusals += 1
        assert not guard.goes_back
    assert 1 <= refusals <= 5


def test_norms_that_rise_without_end_make_the_run_go_back() -> None:
    guard = guard_after([1.0, 1.2] * 64)
    assert not any(guard.accepts(1.0, 10.0**power) for power in range(1, 9))
    assert guard.goes_back


def test_the_run_goes_back_after_so_many_refusals_in_a_row() -> None:
    guard = Guard(Table(max_skips_in_a_row=3))
    found = []
    for loss in (math.nan, math.nan, 1.0, math.nan, math.nan, math.nan):
        guard.accepts(loss, 1.0)
        found.append(guard.goes_back)
    assert found == [False, False, False, False, False, True]


@pytest.mark.parametrize("cut", [0, 3, 40, 70, 150])
def test_a_restored_guard_decides_the_same_bit_for_bit(cut: int) -> None:
    rng = random.Random(5)
    norms = [rng.lognormvariate(0, 0.6) for _ in range(200)]
    norms[90] = math.nan
    straight, first = Guard(Table(window_steps=64)), Guard(Table(window_steps=64))
    decisions = [straight.accepts(1.0, norm) for norm in norms]
    assert 1 < decisions.count(False) < 20  # the tail of the distribution, and the NaN
    found = [first.accepts(1.0, norm) for norm in norms[:cut]]
    second = Guard(Table(window_steps=64))
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    found += [second.accepts(1.0, norm) for norm in norms[cut:]]
    assert found == decisions
    assert second.state() == straight.state()
    assert second.limit() == straight.limit()
