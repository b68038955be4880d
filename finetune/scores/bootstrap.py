"""How sure a score is: bootstrap intervals, and the paired test of two systems on the same rows.

Rows are drawn with replacement (Efron, Tibshirani 1993). Nothing is scored anew: a plug-in says
once what every row contributes (`row_counts`) and what a metric is of rows that occur so and so
often (`of_counts`), so a thousand resamples are one product of matrices. Rows count as independent;
sentences of one document are less than that, and their true intervals wider.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from finetune.task import Dataset
from runtime.errors import DataError

Floats = NDArray[np.float64]
# (rows, k) counts and (R, rows) weights, how often each resample has each row, to R values
Statistic = Callable[[Floats, Floats], Floats]

RESAMPLES = 1000  # of an interval
PAIRED_RESAMPLES = 10_000  # of a test: p is a multiple of 1 / (resamples + 1)
LEVEL = 0.95
HELD_WEIGHTS = 1 << 22  # of resamples weighted at once: 32 MiB


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same rows."""

    difference: float  # of the first over the second
    low: float  # of the interval of the difference
    high: float
    p: float  # one-sided: chance of a gain this large if the first were no better; never 0


def statistic(plugin: ModuleType, metric: str) -> Statistic:
    """A metric of a task kind as a function of resamples."""
    return partial(plugin.of_counts, metric=metric)


def metrics_of(plugin: ModuleType) -> tuple[str, ...]:
    """The metrics that can choose a model of this kind."""
    return get_args(plugin.Params.model_fields["metric"].annotation)


def intervals(
    plugin: ModuleType,
    dataset: Dataset,
    predictions: Sequence[Any],
    labels: Sequence[str],
    metrics: Sequence[str],
) -> dict[str, dict[str, float]]:
    """The interval of each metric of a model on a file."""
    counts = plugin.row_counts(dataset, predictions, labels)
    return {metric: interval(counts, statistic(plugin, metric)) for metric in metrics}


def interval(
    counts: Floats, statistic: Statistic, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float]:
    """The middle 95 % of a metric over resamples (percentile method)."""
    values = np.concatenate([statistic(counts, w) for w in weights(len(counts), resamples, seed)])
    low, high = np.quantile(values, bounds())
    return {"low": float(low), "high": float(high)}


def paired(
    counts_a: Floats,
    counts_b: Floats,
    statistic: Statistic,
    resamples: int = PAIRED_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Whether the first system is better than the second on rows like these.

    Both are resampled alike; p is the share of resamples whose difference exceeds the observed one
    by at least as much (Berg-Kirkpatrick, Burkett, Klein 2012, "An Empirical Investigation of
    Statistical Significance in NLP"), the observed one counted among them. Raises DataError if the
    systems were not run on the same number of rows.
    """
    if len(counts_a) != len(counts_b):
        raise DataError(
            f"a paired test needs both systems on the same rows; one has {len(counts_a)}, the "
            f"other {len(counts_b)}"
        )
    once = np.ones((1, len(counts_a)))
    observed = float((statistic(counts_a, once) - statistic(counts_b, once))[0])
    drawn = np.concatenate(
        [
            statistic(counts_a, w) - statistic(counts_b, w)
            for w in weights(len(counts_a), resamples, seed)
        ]
    )
    low, high = np.quantile(drawn, bounds())
    # A rounding error must not turn two equal systems into a certain gain.
    as_large = int(np.count_nonzero(drawn >= 2 * observed - 1e-12))
    return Comparison(observed, float(low), float(high), (as_large + 1) / (resamples + 1))


def bounds() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2


def weights(num_rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each resample has each row, (R, rows), in parts that fit into memory.

    The same seed draws the same rows, whatever is measured on them. Raises DataError without rows.
    """
    if num_rows == 0:
        raise DataError("there are no rows to resample")
    rng = np.random.default_rng(seed)
    at_once = max(1, HELD_WEIGHTS // num_rows)
    for first in range(0, resamples, at_once):
        size = min(at_once, resamples - first)
        drawn = rng.integers(num_rows, size=(size, num_rows))
        drawn += num_rows * np.arange(size)[:, None]
        found = np.bincount(drawn.ravel(), minlength=size * num_rows)
        yield found.reshape(size, num_rows).astype(np.float64)
