"""Which label was taken for which: of classes by rows of a file, of entities by their spans.

A gold span is paired with the predicted span that shares the most words with it (at a tie: of its
own type, then the first), each with at most one; a gold span that is left over was missed, a
predicted one is spurious. So a row sums to the gold spans of a type and a column to the predicted
ones, whatever their boundaries; strict scores are lower where boundaries are wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.ner import tags
from finetune.ner.tags import Span

MISSED = "(missed)"
SPURIOUS = "(spurious)"


@dataclass(frozen=True)
class Confusion:
    """Counts of gold labels (rows) by predicted labels (columns)."""

    gold: list[str]
    predicted: list[str]
    counts: NDArray[np.int64]  # (gold, predicted)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of each gold label, the share that was predicted as each label; of spurious spans, the
        share of the predicted ones of their type. Without any: 0."""
        totals = np.broadcast_to(self.counts.sum(axis=1, keepdims=True), self.counts.shape)
        is_spurious = np.array([[name == SPURIOUS] for name in self.gold])
        return self.counts / np.maximum(np.where(is_spurious, self.counts.sum(axis=0), totals), 1)

    def mistakes(self, most: int) -> list[tuple[str, str, int]]:
        """The most frequent pairs of a gold label and another that was predicted, most first."""
        found = [
            (gold, predicted, int(self.counts[i, j]))
            for i, gold in enumerate(self.gold)
            for j, predicted in enumerate(self.predicted)
            if gold != predicted and self.counts[i, j]
        ]
        return sorted(found, key=lambda pair: -pair[2])[:most]

    def as_json(self) -> dict[str, Any]:
        return {
            "gold": self.gold,
            "predicted": self.predicted,
            "counts": self.counts.tolist(),
        }


def from_json(found: Mapping[str, Any]) -> Confusion:
    return Confusion(found["gold"], found["predicted"], np.array(found["counts"], np.int64))


def of_classes(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Confusion:
    """A square matrix, rows gold."""
    return Confusion(list(labels), list(labels), np.array(counts, np.int64))


def of_spans(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Confusion:
    """Of entity types, from IOB2 tags of sentences."""
    pairs = [
        pair
        for tags_gold, tags_predicted in zip(gold, predicted, strict=True)
        for pair in matched(tags.spans(tags_gold), tags.spans(tags_predicted))
    ]
    types = sorted({name for pair in pairs for name in pair} - {MISSED, SPURIOUS})
    rows, columns = [*types, SPURIOUS], [*types, MISSED]
    counts = np.zeros((len(rows), len(columns)), np.int64)
    for one, other in pairs:
        counts[rows.index(one), columns.index(other)] += 1
    return Confusion(rows, columns, counts)


def matched(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[str, str]]:
    """Gold and predicted type of every span of a sentence."""
    overlaps = [
        (min(one.end, other.end) - max(one.start, other.start), one.type == other.type, i, j)
        for i, one in enumerate(gold)
        for j, other in enumerate(predicted)
        if one.start < other.end and other.start < one.end
    ]
    found: list[tuple[str, str]] = []
    left, right = set(range(len(gold))), set(range(len(predicted)))
    for _, _, i, j in sorted(overlaps, key=lambda pair: (-pair[0], not pair[1], pair[2], pair[3])):
        if i in left and j in right:
            found.append((gold[i].type, predicted[j].type))
            left.remove(i)
            right.remove(j)
    found += [(gold[i].type, MISSED) for i in sorted(left)]
    return found + [(SPURIOUS, predicted[j].type) for j in sorted(right)]
