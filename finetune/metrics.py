"""What predictions are worth: entity, token and class scores as numbers and as reports.

Entities are scored as seqeval does in strict mode with scheme IOB2: an entity counts only if its
words and its type are exactly right. The mode is part of the report, because seqeval's default mode
gives other numbers for the same predictions. Scores whose denominator is 0 are 0. Counted here in
numpy, and tested equal to seqeval and scikit-learn, because checking a recipe and serving a model
import this file and those libraries take 1.5 seconds to import.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune import tags
from finetune.task import Scores

Counts = NDArray[np.float64]  # (3, L): right, predicted, gold


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


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
    metrics["token_accuracy"] = share_equal(flat_gold, flat_predicted)
    metrics["token_f1"] = without_outside["micro"]["f1"]
    return Scores(metrics, {"entities": entities, "tokens": tokens})


def strict_entities(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Precision, recall and F1 by entity type and averaged."""
    of_gold = [set(tags.spans(row)) for row in gold]
    of_predicted = [set(tags.spans(row)) for row in predicted]
    right = [a & b for a, b in zip(of_gold, of_predicted, strict=True)]
    seen = [
        Counter(span.type for row in rows for span in row)
        for rows in (right, of_predicted, of_gold)
    ]
    types = sorted(set(seen[1]) | set(seen[2]))
    counts = np.array([[count[kind] for kind in types] for count in seen], dtype=np.float64)
    found = summary(counts, types)
    return {"scheme": "IOB2", "mode": "strict", "by_type": found.pop("by_label"), **found}


def by_label(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall and F1 of each of these labels, and averaged over them."""
    right = Counter(a for a, b in zip(gold, predicted, strict=True) if a == b)
    seen = (right, Counter(predicted), Counter(gold))
    counts = np.array([[count[label] for label in labels] for count in seen], dtype=np.float64)
    return summary(counts, labels)


def summary(counts: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Scores of each name, and their micro, macro and weighted (by gold count) averages."""
    each = ratios(counts)  # (3, L): precision, recall, f1
    support = counts[2]
    total = float(support.sum())
    rows = {
        "micro": ratios(counts.sum(axis=1, keepdims=True))[:, 0],
        "macro": each.mean(axis=1) if len(names) else np.zeros(3),
        "weighted": each @ support / total if total else np.zeros(3),
    }
    report = {"by_label": {name: row(each[:, i], support[i]) for i, name in enumerate(names)}}
    return report | {average: row(scores, total) for average, scores in rows.items()}


def row(scores: NDArray[np.float64], support: float) -> dict[str, float]:
    precision, recall, f1 = map(float, scores)
    return {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}


def ratios(counts: Counts) -> NDArray[np.float64]:
    """Precision, recall and F1 (rows) of right, predicted and gold counts (rows)."""
    right, predicted, gold = counts
    parts = [(right, predicted), (right, gold), (2 * right, predicted + gold)]
    return np.stack([np.divide(a, b, out=np.zeros_like(a), where=b > 0) for a, b in parts])


def classes(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Scores:
    """Accuracy, F1, Matthews correlation, confusion matrix (rows gold, columns predicted)."""
    report = by_label(gold, predicted, labels)
    ids = {label: i for i, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    pairs = [(ids[a], ids[b]) for a, b in zip(gold, predicted, strict=True)]
    np.add.at(confusion, tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T), 1)
    metrics = {
        "accuracy": share_equal(gold, predicted),
        "macro_f1": report["macro"]["f1"],
        "micro_f1": report["micro"]["f1"],
        "mcc": matthews(confusion),
    }
    return Scores(metrics, {**report, "labels": list(labels), "confusion": confusion.tolist()})


def matthews(confusion: NDArray[np.int64]) -> float:
    """Matthews correlation of several classes (Gorodkin 2004); 0 if a side has one class only."""
    gold, predicted = confusion.sum(axis=1).astype(float), confusion.sum(axis=0).astype(float)
    total = float(confusion.sum())
    covariance = float(np.trace(confusion)) * total - float(gold @ predicted)
    spread = (total**2 - float(gold @ gold)) * (total**2 - float(predicted @ predicted))
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def share_equal(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Share of places at which both are equal; 0 if there are none."""
    return sum(a == b for a, b in zip(gold, predicted, strict=True)) / max(len(gold), 1)
