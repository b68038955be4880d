"""Curves of what a model claimed: what it never claimed cannot be recalled."""

import pytest

from finetune.scores.precision_recall import curve, points


def test_by_hand() -> None:
    found = curve([True, False, True], [0.9, 0.4, 0.1])
    assert found["recall"] == [0.0, 0.5, 0.5, 1.0]
    assert found["precision"] == [1.0, 1.0, 0.5, 0.6667]
    assert found["average_precision"] == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


def test_what_was_never_claimed_bounds_the_recall() -> None:
    found = curve([True, False, True], [0.9, 0.4, 0.0])
    assert found["recall"] == [0.0, 0.5, 0.5]
    assert found["precision"] == [1.0, 1.0, 0.5]
    assert found["average_precision"] == 0.5
    assert found["support"] == 2
    nothing = curve([True], [0.0])
    assert (nothing["average_precision"], nothing["support"]) == (0.0, 1)


def test_a_label_without_a_positive_has_no_curve() -> None:
    assert points({"a": ([False], [0.3]), "b": ([True], [0.3])}).keys() == {"b"}
