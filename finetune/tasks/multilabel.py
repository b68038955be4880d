"""Several labels a row: any number of them, also none, for a text or a pair of texts.

Every label is a yes or no of its own. A label is given if its probability reaches its threshold:
0.5 while training, after it the one with the best F1 on valid. Of a row that became several
windows, probabilities are averaged. In a file labels are a list (jsonl), or one cell cut at
`label_separator`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from finetune.logits import sigmoid
from finetune.task import Dataset, Encoded, Loss, Scores
from finetune.texts import labelled_text, text_errors, text_windows
from finetune.texts.labelled_text import Columns, Row
from finetune.texts.labelled_text import from_inputs as from_inputs
from finetune.texts.labelled_text import groups as groups
from finetune.texts.labelled_text import texts as texts
from finetune.tokenizer import Tokenizer
from runtime.config import PositiveFloat
from runtime.errors import DataError

HEAD = "sequence"
HALF = 0.5
MOST_WEIGHT = 100.0  # of a rare label's rows, balanced


class Params(Columns):
    """Any number of labels for a text or a pair of texts."""

    kind: Literal["multilabel"] = "multilabel"
    label_field: str | int = "labels"  # name or number of a column, like text_field
    label_separator: str | None = Field(
        default=None, min_length=1
    )  # between the labels in a cell; None: they are a JSON list
    labels: tuple[str, ...] | None = None  # None: those of the training file, sorted
    other_labels: Literal["refuse", "drop"] = (
        "refuse"  # those that `labels` does not name; drop: they are left out and counted
    )
    unlabelled: Literal["keep", "drop"] = (
        "keep"  # rows without labels: none fits, or (drop) nobody has looked; counted
    )
    metric: Literal["micro_f1", "macro_f1", "weighted_f1", "subset_accuracy", "auc"] = (
        "micro_f1"  # chooses the best checkpoint and stops early; auc: mean of each label's
    )
    thresholds: Literal["one", "per_label", "half"] = (
        "one"  # fitted on valid, for all labels or for each; half: 0.5
    )
    # What a row that has the label weighs in the loss of that label. balanced: as much as all rows
    # that lack it together, at most 100; a table: by label, 1 for those it does not name
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = None


@dataclass(frozen=True)
class Prediction:
    """The labels whose probability reaches their threshold, and the probability of every label."""

    labels: tuple[str, ...]  # most probable first
    probabilities: NDArray[np.float64]


def read(path: Path, params: Params) -> Dataset:
    """Read the rows of a file. Raises DataError if there are none."""

    def label_of(value: Any, path: Path, number: int) -> tuple[str, ...]:
        return names_of(value, path, number, params.label_separator)

    found = labelled_text.read(path, params, label_of)
    counts: Counter[str] = Counter({str(k): int(v) for k, v in found.counts.items()})
    rows: list[Row] = []
    for row in found.rows:
        kept = row
        if params.other_labels == "drop" and params.labels is not None:
            kept = replace(row, label=tuple(x for x in row.label if x in params.labels))
            counts["labels_dropped"] += len(row.label) - len(kept.label)
        counts["rows_without_labels"] += not kept.label
        counts["labels"] += len(kept.label)
        if kept.label or params.unlabelled == "keep":
            rows.append(kept)
    if not rows:
        raise DataError(f"no row of {path} has a label; set `unlabelled` to 'keep' or correct it")
    return Dataset(path, list(rows), dict(counts))


def names_of(value: Any, path: Path, number: int, separator: str | None) -> tuple[str, ...]:
    """The labels of a row, each once, in the order of the file. Raises DataError if they are no
    list, or one is empty."""
    if isinstance(value, str) and separator is not None:
        value = value.split(separator) if value.strip() else []
    if not isinstance(value, list):
        raise DataError(
            f"{path}:{number}: {value!r} is no list of labels; write one, or set `label_separator` "
            "to what stands between labels in a cell"
        )
    return tuple(dict.fromkeys(labelled_text.name_of(each, path, number) for each in value))


def label_set(dataset: Dataset, params: Params) -> list[str]:
    """The labels the recipe names, else those of the training rows, sorted."""
    found = sorted({label for row in dataset.rows for label in row.label})
    labels = list(dict.fromkeys(params.labels)) if params.labels is not None else found
    if not labels:
        raise DataError(f"no row of {dataset.path} has a label, so there is nothing to learn")
    check_labels(dataset, labels)
    return labels


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError at the first label that is not in the set."""
    known = set(labels)
    for row in dataset.rows:
        for label in row.label:
            if label not in known:
                raise labelled_text.unknown(label, labels, dataset.path, row.line)


def loss(dataset: Dataset, labels: Sequence[str], params: Params) -> Loss:
    """A yes or no of each label, with the weights of a yes; decoding starts with 0.5."""
    decoding = {"choice": params.thresholds, "thresholds": [HALF] * len(labels)}
    return Loss("binary", weights_of(dataset, labels, params), decoding=decoding)


def weights_of(dataset: Dataset, labels: Sequence[str], params: Params) -> tuple[float, ...] | None:
    """What a yes of each label weighs. Raises DataError if the recipe weighs an unknown label."""
    given = params.class_weights
    if given is None:
        return None
    if given == "balanced":
        seen = Counter(label for row in dataset.rows for label in row.label)
        total = len(dataset.rows)
        return tuple(
            min((total - seen[label]) / seen[label] or 1.0, MOST_WEIGHT) if seen[label] else 1.0
            for label in labels
        )
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

    def target(row: Row) -> NDArray[np.float32]:
        found = np.full((1, len(ids)), np.nan if row.label is None else 0.0, dtype=np.float32)
        found[0, [ids[label] for label in row.label or () if label in ids]] = 1.0
        return found

    return text_windows.encode(dataset.rows, tokenizer, params, max_length, target)


def decode(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Prediction]:
    """The labels of every row that reach their threshold."""
    found = probabilities(dataset, encoded, logits, labels)
    limits = np.array(decoding.get("thresholds", [HALF] * len(labels)))
    return [
        Prediction(tuple(labels[k] for k in np.argsort(-row, kind="stable") if is_given[k]), row)
        for row, is_given in zip(found, found >= limits, strict=True)
    ]


def probabilities(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
) -> NDArray[np.float64]:
    """Of each label, (rows, L)."""
    found = sigmoid(text_windows.stacked(logits, len(labels)))
    return text_windows.averaged(found, encoded, len(dataset.rows))


def calibrate(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> dict[str, Any]:
    """The thresholds with the best F1 on valid rows: over all labels, or of each."""
    from finetune.scores import label_set_metrics
    from finetune.texts import calibration  # late: scipy takes a while

    choice = decoding.get("choice", "half")
    if choice == "half":
        return dict(decoding)
    wanted = table_of(gold_of(dataset), labels)
    found = probabilities(dataset, encoded, logits, labels)
    limits = calibration.thresholds(wanted, found, choice == "per_label")
    record = {
        f"{metric}_{name}": label_set_metrics.label_sets(wanted, found >= limit, labels).metrics[
            metric
        ]
        for metric in ("micro_f1", "macro_f1")
        for name, limit in (("before", np.array(HALF)), ("after", np.array(limits)))
    }
    return {**decoding, "thresholds": limits, "calibration": record}


def with_threshold(
    decoding: Mapping[str, Any], threshold: float, labels: Sequence[str]
) -> dict[str, Any]:
    """Decoding with one threshold for all labels."""
    return {**decoding, "thresholds": [threshold] * len(labels)}


def gold_of(dataset: Dataset) -> list[tuple[str, ...]]:
    return [row.label for row in dataset.rows]


def table_of(sets: Sequence[tuple[str, ...]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which row has which label, (rows, L)."""
    ids = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(sets), len(labels)), dtype=bool)
    for i, found in enumerate(sets):
        table[i, [ids[label] for label in found if label in ids]] = True
    return table


def tables_of(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The labels that rows have, and those they were given."""
    given = [prediction.labels for prediction in predictions]
    return table_of(gold_of(dataset), labels), table_of(given, labels)


def probability_table(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    return np.stack([prediction.probabilities for prediction in predictions])


def gold(row: Row) -> list[str]:
    """The labels of a row."""
    return list(row.label)


def answer(row: Row, prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """The labels and the probability of every label, most probable first."""
    order = np.argsort(-prediction.probabilities, kind="stable")
    return {
        "labels": list(prediction.labels),
        "probabilities": {labels[i]: round(float(prediction.probabilities[i]), 6) for i in order},
    }


def score(dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Scores of sets and of each label."""
    from finetune.scores import label_set_metrics  # late: scipy takes a while

    wanted, given = tables_of(dataset, predictions, labels)
    return label_set_metrics.label_sets(wanted, given, labels, probability_table(predictions))


def row_counts(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> NDArray[np.float64]:
    """What each row contributes to the metrics that can choose a model."""
    from finetune.scores import label_set_metrics  # late: scipy takes a while

    wanted, given = tables_of(dataset, predictions, labels)
    return label_set_metrics.row_counts(wanted, given, probability_table(predictions))


def of_counts(
    counts: NDArray[np.float64], weights: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """A metric of rows that occur weights[r, i] times."""
    from finetune.scores import label_set_metrics  # late: scipy takes a while

    return label_set_metrics.of_counts(counts, weights, metric)


def baselines(
    train: Dataset, dataset: Dataset, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`frequent`: the most frequent labels of the training rows everywhere, as many as a row has
    on average (at least one), each as probable as it is among them."""
    from finetune.scores import label_set_metrics  # late: scipy takes a while

    seen = Counter(label for found in gold_of(train) for label in found)
    size = max(1, round(seen.total() / len(train.rows)))
    most = tuple(sorted(seen, key=lambda label: (-seen[label], label))[:size])
    wanted = table_of(gold_of(dataset), labels)
    given = table_of([most] * len(dataset.rows), labels)
    shares = np.tile([seen[label] / len(train.rows) for label in labels], (len(wanted), 1))
    return {"frequent": label_set_metrics.label_sets(wanted, given, labels, shares).metrics}


def curves(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, tuple[list[bool], list[float]]]:
    """Of each label which rows have it, and how probable it was."""
    wanted, found = table_of(gold_of(dataset), labels), probability_table(predictions)
    return {label: (wanted[:, k].tolist(), found[:, k].tolist()) for k, label in enumerate(labels)}


def analysis(
    train: Dataset,
    dataset: Dataset,
    predictions: Sequence[Prediction],
    labels: Sequence[str],
    params: Params,
) -> dict[str, Any]:
    """Kinds of errors, the rows with the surest ones, whole sets by length of text, calibration."""
    from finetune.scores import class_metrics  # late: scipy takes a while

    wanted, given = tables_of(dataset, predictions, labels)
    found = probability_table(predictions)
    missed, spurious = wanted & ~given, given & ~wanted
    badness = np.where(missed, 1.0 - found, np.where(spurious, found, 0.0)).max(axis=1)
    details = [
        {
            "gold": list(row.label),
            "predicted": {k: round(float(found[i, labels.index(k)]), 4) for k in predicted.labels},
        }
        for i, (row, predicted) in enumerate(zip(dataset.rows, predictions, strict=True))
    ]
    is_whole = (wanted == given).all(axis=1)
    return {
        "counts": {
            "rows": len(dataset.rows),
            "rows_wrong": int((~is_whole).sum()),
            "labels_missed": int(missed.sum()),
            "labels_spurious": int(spurious.sum()),
        },
        "examples": {"surest_errors": text_errors.worst(dataset.rows, badness, details)},
        "by_length": text_errors.by_length(dataset.rows, is_whole, "subset_accuracy"),
        "calibration": class_metrics.calibration(wanted.ravel(), found.ravel()),
    }


def final_report(
    dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, Any]:
    """`label_table`: scores by label as scikit-learn prints them; the ranking precision."""
    from finetune.scores import class_metrics, label_set_metrics  # late: scipy takes a while

    wanted = table_of(gold_of(dataset), labels)
    return {
        "label_table": class_metrics.label_table(score(dataset, predictions, labels).report),
        **label_set_metrics.ranking_precision(wanted, probability_table(predictions)),
    }
