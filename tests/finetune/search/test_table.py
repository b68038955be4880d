"""Which ranges and searches make sense."""

import pytest
from pydantic import ValidationError

from finetune.search.table import Range, Search


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give low and high, or values"),
        ({"low": 1}, "give low and high, or values"),
        ({"low": 1, "high": 2, "values": (1,)}, "both are here (low, high)"),
        ({"log": True, "values": (1,)}, "both are here (log)"),
        ({"values": (1, 2, 1)}, "name a value twice"),
        ({"low": 2, "high": 2}, "low (2) must be below high (2)"),
        ({"low": 0.0, "high": 1.0, "log": True}, "log needs a low above 0"),
        ({"low": 1, "high": 8, "log": True, "step": 2}, "and no step"),
        ({"low": 0, "high": 4, "step": 5}, "step (5) must be above 0 and at most high - low (4)"),
        ({"low": 0, "high": 4, "step": 0.5}, "write low = 0.0 for a range of any numbers"),
        ({"low": 0.0, "high": float("inf")}, "every number must be finite"),
        ({"values": ()}, "at least 1 item"),
    ],
)
def test_impossible_ranges(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Range.model_validate(given)
    assert message in str(caught.value)


def test_true_and_one_are_two_values() -> None:
    assert Range(values=(True, 1)).values == (True, 1)


@pytest.mark.parametrize(
    ("given", "is_whole", "is_countable"),
    [
        (Range(low=1, high=4), True, True),
        (Range(low=1, high=4, log=True), True, False),
        (Range(low=1.0, high=4), False, False),
        (Range(low=1.0, high=4, step=1.5), False, True),
        (Range(values=("a", "b")), False, True),
    ],
)
def test_what_a_range_is(given: Range, is_whole: bool, is_countable: bool) -> None:
    assert given.is_whole is is_whole
    assert given.is_countable is is_countable


def test_a_grid_needs_countable_ranges() -> None:
    endless = {"tasks.a.learning_rate": Range(low=1e-5, high=1e-3, log=True)}
    with pytest.raises(ValidationError, match=r"needs `values` or a `step` for tasks.a.learning_"):
        Search(space=endless, sampler="grid")
    assert Search(space=endless, sampler="random").trials == 20
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Search(folds=1)
