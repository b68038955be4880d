"""Resamples by hand, beside scipy's bootstrap, and the p of a paired test."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm

from finetune.scores import bootstrap
from finetune.scores.bootstrap import Floats, interval, paired, weights
from finetune.tasks import classification, ner
from runtime.errors import DataError


def mean(counts: Floats, weights: Floats) -> Floats:
    found: Floats = weights @ counts[:, 0] / len(counts)
    return found


def column(*values: float) -> Floats:
    return np.array(values)[:, None]


def test_every_resample_has_as_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(weights(7, 50, seed=3)))
    assert whole.shape == (50, 7)
    assert (whole.sum(axis=1) == 7).all()
    assert whole.mean() == 1.0
    monkeypatch.setattr(bootstrap, "HELD_WEIGHTS", 70)  # ten at a time: the same resamples
    parts = list(weights(7, 50, seed=3))
    assert len(parts) == 5
    assert (np.concatenate(parts) == whole).all()


def test_two_rows_give_three_means() -> None:
    # Of two draws both are the first row a quarter of the time.
    found = np.concatenate([mean(column(0, 1), w) for w in weights(2, 4000, seed=1)])
    shares = [(found == value).mean() for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).random(200)
    ours = interval(column(*values), mean, resamples=4000)
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0)
    assert ours["low"] == pytest.approx(theirs.confidence_interval.low, abs=0.004)
    assert ours["high"] == pytest.approx(theirs.confidence_interval.high, abs=0.004)
    assert interval(column(1, 1, 1), mean) == {"low": 1.0, "high": 1.0}


def test_p_by_hand() -> None:
    right, wrong = column(*[1] * 20), column(*[0] * 20)
    assert paired(right, wrong, mean, resamples=99).p == 0.01  # no resample gains as much
    same = paired(right, right, mean, resamples=99)
    assert (same.difference, same.p) == (0.0, 1.0)
    assert paired(wrong, right, mean, resamples=99).p == 1.0  # a loss is no gain


def test_p_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.1, 1, 400), rng.normal(0, 1, 400)
    found = paired(column(*a), column(*b), mean)
    gap = a - b
    error = gap.std() / np.sqrt(400)
    assert found.difference == pytest.approx(gap.mean())
    assert found.p == pytest.approx(norm.sf(gap.mean() / error), abs=0.015)
    assert found.low == pytest.approx(gap.mean() - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(gap.mean() + 1.96 * error, abs=0.01)
    assert found == paired(column(*a), column(*b), mean)


def test_refusals() -> None:
    with pytest.raises(DataError, match="one has 2, the other 1"):
        paired(column(1, 2), column(1), mean)
    with pytest.raises(DataError, match="no rows to resample"):
        interval(np.zeros((0, 1)), mean)


def test_metrics_that_can_choose_models() -> None:
    assert "macro_f1" in bootstrap.metrics_of(classification)
    assert "f1" in bootstrap.metrics_of(ner)
