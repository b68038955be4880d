"""Regression: a number for a text or a pair of texts.

The model learns numbers with mean 0 and deviation 1 over the training rows, whatever their unit:
learning rates fit. Answers and scores are in the unit of the labels. Of a row that became several
windows, numbers are averaged.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetune.scores import value_metrics
from finetune.task import Dataset, Encoded, Loss, Scores
from finetune.texts import labelled_text, text_errors, text_windows
from finetune.texts.labelled_text import Columns, Row
from finetune.texts.labelled_text import from_inputs as from_inputs
from finetune.texts.labelled_text import groups as groups
from finetune.texts.labelled_text import texts as texts
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError

HEAD = "sequence"
OUTPUT = "value"  # the name of the single output


class Params(Columns):
    """A number for a text or a pair of texts."""

    kind: Literal["regression"] = "regression"
    metric: Literal["pearson", "spearman", "r2"] = (
        "pearson"  # chooses the best checkpoint and stops early
    )


@dataclass(frozen=True)
class Prediction:
    """A number in the unit of the labels."""

    value: float


def read(path: Path, params: Params) -> Dataset:
    """Read the rows of a file. Raises DataError if there are none."""
    return labelled_text.read(path, params, number_of)


def number_of(value: Any, path: Path, number: int) -> float:
    """A finite number. Raises DataError if it is something else."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(
            f"{path}:{number}: {value!r} is no finite number; write one like 3.5, or remove the row"
        )
    return found


def label_set(dataset: Dataset, params: Params) -> list[str]:
    """The name of the single output. Raises DataError if all training rows have one number."""
    first = dataset.rows[0].label
    if all(row.label == first for row in dataset.rows):
        raise DataError(f"every row of {dataset.path} has the number {first}: nothing to learn")
    return [OUTPUT]


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Any number will do."""


def loss(dataset: Dataset, labels: Sequence[str], params: Params) -> Loss:
    """Squared error of numbers in training deviations; decoding knows their mean and deviation."""
    found = gold_of(dataset)
    decoding = {"mean": float(found.mean()), "deviation": float(found.std()) or 1.0}
    return Loss("squared", decoding=decoding)


def gold_of(dataset: Dataset) -> NDArray[np.float64]:
    return np.array([row.label for row in dataset.rows], dtype=np.float64)


def encode(
    dataset: Dataset,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    params: Params,
    max_length: int,
) -> Encoded:
    """Every row as one window, or as several with `long_texts = "windows"`; targets are in the
    unit of the labels."""

    def target(row: Row) -> NDArray[np.float32]:
        return np.array([[math.nan if row.label is None else row.label]], dtype=np.float32)

    return text_windows.encode(dataset.rows, tokenizer, params, max_length, target)


def decode(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Prediction]:
    """The number of every row."""
    stacked = text_windows.stacked(logits, len(labels))
    found = text_windows.averaged(stacked, encoded, len(dataset.rows))[:, 0]
    values = found * decoding.get("deviation", 1.0) + decoding.get("mean", 0.0)
    return [Prediction(float(value)) for value in values]


def calibrate(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> dict[str, Any]:
    """Nothing is fitted."""
    return dict(decoding)


def gold(row: Row) -> float:
    """The number of a row."""
    return float(row.label)


def answer(row: Row, prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """The number."""
    return {"value": prediction.value}


def values_of(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    return np.array([prediction.value for prediction in predictions], dtype=np.float64)


def score(dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Correlations and errors."""
    return value_metrics.values(gold_of(dataset), values_of(predictions))


def row_counts(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> NDArray[np.float64]:
    """What each row contributes to the metrics that can choose a model."""
    return value_metrics.row_counts(gold_of(dataset), values_of(predictions))


def of_counts(
    counts: NDArray[np.float64], weights: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """A metric of rows that occur weights[r, i] times."""
    return value_metrics.of_counts(counts, weights, metric)


def baselines(
    train: Dataset, dataset: Dataset, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`mean`: that of the training rows everywhere."""
    wanted = gold_of(dataset)
    constant = np.full(len(wanted), gold_of(train).mean())
    return {"mean": value_metrics.values(wanted, constant).metrics}


def curves(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, tuple[list[bool], list[float]]]:
    """A number has none."""
    return {}


def analysis(
    train: Dataset,
    dataset: Dataset,
    predictions: Sequence[Prediction],
    labels: Sequence[str],
    params: Params,
) -> dict[str, Any]:
    """The largest errors, and their mean size by length of text and by range of gold numbers."""
    wanted, found = gold_of(dataset), values_of(predictions)
    errors = np.abs(found - wanted)
    details = [
        {"gold": float(one), "predicted": round(float(other), 4)}
        for one, other in zip(wanted, found, strict=True)
    ]
    return {
        "examples": {"largest_errors": text_errors.worst(dataset.rows, errors, details)},
        "by_length": text_errors.by_length(dataset.rows, errors, "mean_absolute_error"),
        "by_gold": by_gold(wanted, found),
    }


def by_gold(wanted: NDArray[np.float64], found: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Bias and mean size of errors in ranges of gold numbers, a quarter of the rows each."""
    ranges = np.array_split(np.argsort(wanted, kind="stable"), 4)
    return [
        {
            "low": float(wanted[members].min()),
            "high": float(wanted[members].max()),
            "rows": len(members),
            "bias": float((found - wanted)[members].mean()),
            "mean_absolute_error": float(np.abs(found - wanted)[members].mean()),
        }
        for members in ranges
        if len(members)
    ]


def final_report(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, Any]:
    """There is no more to say."""
    return {}
