"""What a model that knows nothing loses, by hand."""

import math
from typing import Any

import numpy as np
import pytest

from finetune.multitask import norms
from finetune.task import Loss, Window


def windows(targets: list[Any], kind: str = "f4") -> list[Window]:
    """One window with these targets."""
    count = len(targets)
    empty = np.zeros(count, dtype=np.int64)
    ids = np.ones(3, dtype=np.int32)
    return [Window(0, ids, None, empty, np.array(targets, dtype=kind), empty)]


def test_of_labels_their_logarithm() -> None:
    assert norms.of(Loss(), 8, windows([1, 2], "i8")) == pytest.approx(3 * math.log(2))
    assert norms.of(Loss("crf"), 5, windows([1, 2], "i8")) == pytest.approx(math.log(5))


def test_of_the_focal_loss_what_it_leaves_of_it() -> None:
    """All probabilities 1/4: (3/4) ** 2 of ln 4."""
    assert norms.of(Loss("focal", gamma=2.0), 4, []) == pytest.approx(9 / 16 * math.log(4))
    assert norms.of(Loss("focal"), 4, []) == pytest.approx(math.log(4))


def test_of_yes_or_no_one_bit() -> None:
    assert norms.of(Loss("binary"), 7, windows([[1.0] * 7])) == pytest.approx(math.log(2))


def test_of_squared_errors_the_variance_of_what_is_known() -> None:
    standard = windows([[-1.0], [1.0]])
    assert norms.of(Loss("squared"), 1, standard) == pytest.approx(1.0)
    # columns 1, 3 (mean 2) and 10, unknown (mean 10): squares 1, 1, 0 of three known values
    two = windows([[1.0, 10.0], [3.0, math.nan]])
    assert norms.of(Loss("squared"), 2, two) == pytest.approx(2 / 3)


def test_squared_errors_of_equal_targets_are_left_as_they_are() -> None:
    assert norms.of(Loss("squared"), 1, windows([[2.0], [2.0]])) == 1.0
