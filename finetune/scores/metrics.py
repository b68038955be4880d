"""What predictions are worth: entity, token and class scores as numbers and as reports.

Entities are scored by seqeval in strict mode with scheme IOB2: an entity counts only if its words
and its type are exactly right. Mode and scheme are part of the report, because seqeval's default
mode gives other numbers for the same predictions. Tokens and classes are scored by scikit-learn.
Scores whose denominator is 0 are 0. Importing this file takes 1.5 seconds, so task plug-ins, which
every recipe check imports, do it where they score.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from finetune import tags
from finetune.task import Scores

AVERAGES = ("micro", "macro", "weighted")


def tagging(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> Scores:
    """Strict entity scores by type and token scores by tag, of IOB2 tags."""
    entities = strict_entities(gold, predicted)
    flat_gold = [tag for row in gold for tag in row]
    flat_predicted = [tag for row in predicted for tag in row]
    named = [label for label in labels if label != tags.OUTSIDE]
    without_outside = by_label(flat_gold, flat_predicted, named)
    tokens = {
        "num_tokens": len(flat_gold),
        "with_outside": by_label(flat_gold, flat_predicted, labels),
        "without_outside": without_outside,
    }
    metrics = {name: entities["micro"][name] for name in ("precision", "recall", "f1")}
    metrics["token_accuracy"] = float(accuracy_score(flat_gold, flat_predicted))
    metrics["token_f1"] = without_outside["micro"]["f1"]
    return Scores(metrics, {"entities": entities, "tokens": tokens})


def strict_entities(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Precision, recall and F1 by entity type and averaged."""
    named = {"scheme": "IOB2", "mode": "strict"}
    if not any(tags.spans(row) for rows in (gold, predicted) for row in rows):
        nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
        return {**named, "by_type": {}, **dict.fromkeys(AVERAGES, nothing)}
    with undefined_is_zero():
        report = classification_report(
            list(map(list, gold)), list(map(list, predicted)),
            mode="strict", scheme=IOB2, output_dict=True, zero_division=0,
        )  # fmt: skip
    averages = {average: row(report.pop(f"{average} avg")) for average in AVERAGES}
    return {**named, "by_type": {name: row(found) for name, found in report.items()}, **averages}


def row(found: Mapping[str, Any]) -> dict[str, float]:
    """One line of seqeval's report under our names."""
    scores = {name: float(found[name]) for name in ("precision", "recall")}
    return {**scores, "f1": float(found["f1-score"]), "support": int(found["support"])}


def by_label(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall and F1 of each of these labels, and averaged over them."""
    with undefined_is_zero():
        each, *averaged = (
            precision_recall_fscore_support(
                gold, predicted, labels=list(labels), average=average, zero_division=0
            )
            for average in (None, *AVERAGES)
        )
    support = int(each[3].sum())
    names = ("precision", "recall", "f1", "support")
    columns = [column.tolist() for column in each]
    return {
        "by_label": {
            label: dict(zip(names, scores, strict=True))
            for label, *scores in zip(labels, *columns, strict=True)
        },
        **{
            average: {
                **dict(zip(names[:3], map(float, scores[:3]), strict=True)),
                "support": support,
            }
            for average, scores in zip(AVERAGES, averaged, strict=True)
        },
    }


def classes(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Scores:
    """Accuracy, F1, Matthews correlation, confusion matrix (rows gold, columns predicted)."""
    report = by_label(gold, predicted, labels)
    with undefined_is_zero():
        correlation = float(matthews_corrcoef(gold, predicted))
    metrics = {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": report["macro"]["f1"],
        "micro_f1": report["micro"]["f1"],
        "mcc": correlation,
    }
    confusion = confusion_matrix(gold, predicted, labels=list(labels)).tolist()
    return Scores(metrics, {**report, "labels": list(labels), "confusion": confusion})


@contextmanager
def undefined_is_zero() -> Iterator[None]:
    """Silence what the libraries say about scores without a denominator: they are 0 by contract."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
