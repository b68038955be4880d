"""Classification: one label for a text or a pair of texts.

Logits become probabilities by one temperature, fitted on valid; of a row that became several
windows, probabilities are averaged.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from finetune.task import IGNORED, Dataset, Encoded, Loss, Scores
from finetune.texts import labelled_text, text_errors, text_windows
from finetune.texts.labelled_text import Columns, Row
from finetune.texts.labelled_text import from_inputs as from_inputs
from finetune.texts.labelled_text import groups as groups
from finetune.texts.labelled_text import texts as texts
from finetune.tokenizer import Tokenizer
from runtime.config import PositiveFloat
from runtime.errors import DataError

log = logging.getLogger("textmill")

HEAD = "sequence"


class Params(Columns):
    """One label for a text or a pair of texts."""

    kind: Literal["classification"] = "classification"
    labels: tuple[str, ...] | None = None  # None: those of the training file, sorted
    metric: Literal["accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", "auc"] = (
        "accuracy"  # chooses the best checkpoint and stops early; auc: mean of each label's
    )
    # What a row weighs in the loss. balanced: rows / (labels x rows of its label), so that every
    # label weighs the same; a table: by label, 1 for those it does not name
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = None
    loss: Literal["cross_entropy", "focal"] = (
        "cross_entropy"  # focal: rows that are well classified count less
    )
    gamma: float = Field(default=2.0, ge=0.0)  # focal: how much less; 0 is cross-entropy


@dataclass(frozen=True)
class Prediction:
    """The most probable label and the probability of every label."""

    label: str
    probabilities: NDArray[np.float64]


def read(path: Path, params: Params) -> Dataset:
    """Read the rows of a file. Raises DataError if there are none."""
    return labelled_text.read(path, params, labelled_text.name_of)


def label_set(dataset: Dataset, params: Params) -> list[str]:
    """The labels the recipe names, else those of the training rows, sorted."""
    found = sorted({row.label for row in dataset.rows})
    labels = list(dict.fromkeys(params.labels)) if params.labels is not None else found
    if len(labels) < 2:
        raise DataError(
            f"{dataset.path} holds the single label {labels[0]!r}; classification needs two"
        )
    check_labels(dataset, labels)
    if missing := [label for label in labels if label not in set(found)]:
        log.warning("no row of %s has the label %s", dataset.path, ", ".join(missing[:20]))
    return labels


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError at the first label that is not in the set."""
    known = set(labels)
    for row in dataset.rows:
        if row.label not in known:
            raise labelled_text.unknown(row.label, labels, dataset.path, row.line)


def loss(dataset: Dataset, labels: Sequence[str], params: Params) -> Loss:
    """Cross-entropy or focal loss, with the weights of the labels."""
    weights = weights_of(dataset, labels, params)
    if params.loss == "focal":
        return Loss("focal", weights, params.gamma)
    return Loss("cross_entropy", weights)


def weights_of(dataset: Dataset, labels: Sequence[str], params: Params) -> tuple[float, ...] | None:
    """What the rows of each label weigh. Raises DataError if the recipe weighs an unknown label."""
    given = params.class_weights
    if given is None:
        return None
    if given == "balanced":
        seen = Counter(row.label for row in dataset.rows)
        mean = len(dataset.rows) / len(seen)
        return tuple(mean / seen[label] if seen[label] else 1.0 for label in labels)
    return labelled_text.weights_by_name(given, labels)


def encode(
    dataset: Dataset,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    params: Params,
    max_length: int,
) -> Encoded:
    """Every row as one window, or as several with `long_texts = "windows"`."""
    ids = {label: i for i, label in enumerate(labels)}

    def target(row: Row) -> NDArray[np.int64]:
        return np.array([ids.get(row.label, IGNORED)], dtype=np.int64)

    return text_windows.encode(dataset.rows, tokenizer, params, max_length, target)


def decode(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Prediction]:
    """The most probable label of every row."""
    found = text_windows.class_probabilities(
        text_windows.stacked(logits, len(labels)),
        encoded,
        len(dataset.rows),
        decoding.get("temperature", 1.0),
    )
    return [Prediction(labels[int(row.argmax())], row) for row in found]


def calibrate(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> dict[str, Any]:
    """The temperature that suits valid rows best."""
    from finetune.texts import calibration  # late: scipy takes a while

    ids = {label: i for i, label in enumerate(labels)}
    gold = np.array([ids[row.label] for row in dataset.rows], dtype=np.int64)
    stacked = text_windows.stacked(logits, len(labels))
    return {**decoding, **calibration.temperature(stacked, encoded, gold)}


def gold(row: Row) -> str:
    """The label of a row."""
    return str(row.label)


def answer(row: Row, prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """The label and the probability of every label, most probable first."""
    order = np.argsort(-prediction.probabilities, kind="stable")
    return {
        "label": prediction.label,
        "probabilities": {labels[i]: round(float(prediction.probabilities[i]), 6) for i in order},
    }


def score(dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Class scores, the confusion matrix, and how far probabilities can be believed."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    named = [prediction.label for prediction in predictions]
    return class_metrics.classes(gold_of(dataset), named, labels, table_of(predictions))


def gold_of(dataset: Dataset) -> list[str]:
    return [row.label for row in dataset.rows]


def table_of(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """Probabilities, (rows, L)."""
    return np.stack([prediction.probabilities for prediction in predictions])


def row_counts(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> NDArray[np.float64]:
    """What each row contributes to the metrics that can choose a model."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    named = [prediction.label for prediction in predictions]
    return class_metrics.row_counts(gold_of(dataset), named, labels, table_of(predictions))


def of_counts(
    counts: NDArray[np.float64], weights: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """A metric of rows that occur weights[r, i] times."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    return class_metrics.of_counts(counts, weights, metric)


def baselines(
    train: Dataset, dataset: Dataset, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`majority`: the most frequent label of the training rows everywhere, as probable as it is
    among them."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    seen = Counter(gold_of(train))
    most = max(sorted(seen), key=lambda label: seen[label])
    names = gold_of(dataset)
    shares = np.tile([seen[label] / len(train.rows) for label in labels], (len(names), 1))
    return {"majority": class_metrics.classes(names, [most] * len(names), labels, shares).metrics}


def curves(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, tuple[list[bool], list[float]]]:
    """Of each label which rows have it, and how probable it was."""
    names, table = gold_of(dataset), table_of(predictions)
    return {
        label: ([name == label for name in names], table[:, k].tolist())
        for k, label in enumerate(labels)
    }


def analysis(
    train: Dataset,
    dataset: Dataset,
    predictions: Sequence[Prediction],
    labels: Sequence[str],
    params: Params,
) -> dict[str, Any]:
    """The errors the model was surest of, accuracy by length of text, and calibration."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    names = gold_of(dataset)
    given = [prediction.label for prediction in predictions]
    confidence = table_of(predictions).max(axis=1)
    is_right = np.array(names) == np.array(given)
    details = [
        {"gold": one, "predicted": other, "confidence": round(float(sure), 4)}
        for one, other, sure in zip(names, given, confidence, strict=True)
    ]
    return {
        "counts": {"rows": len(names), "wrong": int((~is_right).sum())},
        "examples": {
            "surest_errors": text_errors.worst(
                dataset.rows, np.where(is_right, 0.0, confidence), details
            )
        },
        "by_length": text_errors.by_length(dataset.rows, is_right, "accuracy"),
        "calibration": class_metrics.calibration(is_right, confidence),
    }


def final_report(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, Any]:
    """`label_table`: scores by label as scikit-learn prints them."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    return {"label_table": class_metrics.label_table(score(dataset, predictions, labels).report)}
