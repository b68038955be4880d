"""Hand-computed learning rates for each shape, and those of transformers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import optimization

from runtime.config import Schedule
from runtime.schedule import learning_rate

TENTHS = [0, 50, 100, 250, 500, 600, 700, 900, 1000, 1100]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        # warm-up to 100, flat to 600, then 0.1 + 0.9 * (1 - sqrt(share of the last 400))
        ("wsd", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.55, 0.220577, 0.1, 0.1]),
        # after 100: 0.1 + 0.9 * (1 + cos(pi * share of the last 900)) / 2
        ("cosine", [0.0, 0.5, 1.0, 0.939711, 0.628142, 0.471858, 0.325, 0.127138, 0.1, 0.1]),
        # after 100: 1 - 0.001 a token
        ("linear", [0.0, 0.5, 1.0, 0.85, 0.6, 0.5, 0.4, 0.2, 0.1, 0.1]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_each_shape_by_hand(shape: str, expected: list[float]) -> None:
    schedule = Schedule(
        shape=shape,  # type: ignore[arg-type]
        warmup_share=0.1,
        decay_share=0.4,
        final_share=0.1,
    )
    found = [learning_rate(schedule, 1.0, tokens, 1000) for tokens in TENTHS]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", ["wsd", "cosine", "linear"])
def test_each_shape_is_that_of_transformers(shape: str) -> None:
    """Theirs count steps and end at 0: 100 steps, 10 of warm-up, 30 of decay."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    theirs = {
        "wsd": lambda: optimization.get_wsd_schedule(optimizer, 10, 30, 100, decay_type="1-sqrt"),
        "cosine": lambda: optimization.get_cosine_schedule_with_warmup(optimizer, 10, 100),
        "linear": lambda: optimization.get_linear_schedule_with_warmup(optimizer, 10, 100),
    }[shape]()
    schedule = Schedule(
        shape=shape,  # type: ignore[arg-type]
        warmup_share=0.1,
        decay_share=0.3,
        final_share=0.0,
    )
    for step in range(101):
        found = learning_rate(schedule, 2.0, step, 100)
        assert found == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_scales_with_the_peak() -> None:
    schedule = Schedule(shape="linear", warmup_share=0.0)
    assert learning_rate(schedule, 3e-4, 500, 1000) == pytest.approx(1.5e-4)


def test_no_warmup_starts_at_the_peak_and_no_decay_stays_there() -> None:
    schedule = Schedule(shape="wsd", warmup_share=0.0, decay_share=0.0)
    assert [learning_rate(schedule, 2.0, tokens, 10) for tokens in (0, 5, 10)] == [2.0, 2.0, 2.0]


@given(
    shape=st.sampled_from(["wsd", "cosine", "linear", "constant"]),
    warmup=st.floats(0.0, 0.5),
    decay=st.floats(0.0, 0.5),
    final=st.floats(0.0, 1.0),
    tokens=st.integers(0, 2000),
)
def test_never_leaves_the_range_and_never_rises_after_the_warmup(
    shape: str, warmup: float, decay: float, final: float, tokens: int
) -> None:
    schedule = Schedule(
        shape=shape,  # type: ignore[arg-type]
        warmup_share=warmup,
        decay_share=decay,
        final_share=final,
    )
    here = learning_rate(schedule, 1.0, tokens, 1000)
    later = learning_rate(schedule, 1.0, tokens + 1, 1000)
    assert 0.0 <= here <= 1.0
    if tokens >= warmup * 1000:
        assert later <= here + 1e-12
