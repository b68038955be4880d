"""What is wrong with predicted entities, in the terms of SemEval-2013 task 9 and of MUC.

Entities that are exactly right are taken away. Of what is left, a gold and a predicted entity that
share a word are one error: of `type` (same words), of `boundary` (same type), or of both. Each
belongs to one pair at most: same words first, then same type, then the larger overlap, then text
order. A gold entity without partner is `missed`, a predicted one `spurious`. So strict false
negatives are missed + type + boundary + boundary_and_type, and false positives the same with
spurious for missed.

A mention is `seen` if its words, case folded, are an entity of its type in the training rows,
`other_type` if only an entity of another type, else `unseen`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.ner.tagged_text import Sentence
from finetune.ner.tags import Span

KINDS = ("boundary", "type", "boundary_and_type", "missed", "spurious")
EXAMPLES = 4  # of each kind, evenly spread over the file
CONTEXT = 6  # words before and after an example
NOVELTY = ("seen", "other_type", "unseen")


@dataclass(frozen=True)
class Error:
    """One error: a gold and a predicted entity that belong together, or one alone."""

    kind: str
    gold: Span | None
    predicted: Span | None

    @property
    def type(self) -> str:
        """That of the gold entity, if there is one."""
        span = self.gold or self.predicted
        assert span is not None
        return span.type


def errors(gold: Iterable[Span], predicted: Iterable[Span]) -> list[Error]:
    """The errors of one sentence, in text order."""
    wanted, given = set(gold), set(predicted)
    missed, spurious = wanted - given, given - wanted
    pairs = sorted(
        ((a, b) for a in missed for b in spurious if overlap(a, b) > 0),
        key=lambda pair: closeness(*pair),
    )
    found: list[Error] = []
    for a, b in pairs:
        if a in missed and b in spurious:
            missed.remove(a)
            spurious.remove(b)
            found.append(Error(kind_of(a, b), a, b))
    found += [Error("missed", a, None) for a in missed]
    found += [Error("spurious", None, b) for b in spurious]
    return sorted(found, key=lambda error: min(span.start for span in spans_of(error)))


def overlap(a: Span, b: Span) -> int:
    """Words that both hold; below 1: none."""
    return min(a.end, b.end) - max(a.start, b.start)


def closeness(gold: Span, predicted: Span) -> tuple[bool, bool, int, int, int]:
    """Sorts pairs: the closest first."""
    return (
        (gold.start, gold.end) != (predicted.start, predicted.end),
        gold.type != predicted.type,
        -overlap(gold, predicted),
        gold.start,
        predicted.start,
    )


def kind_of(gold: Span, predicted: Span) -> str:
    if (gold.start, gold.end) == (predicted.start, predicted.end):
        return "type"
    return "boundary" if gold.type == predicted.type else "boundary_and_type"


def spans_of(error: Error) -> list[Span]:
    return [span for span in (error.gold, error.predicted) if span is not None]


def report(rows: Sequence[Sentence], predicted: Sequence[Sequence[Span]]) -> dict[str, Any]:
    """Errors counted by kind and by type, and some of each in their sentence."""
    found = [
        (row, error)
        for row, spans in zip(rows, predicted, strict=True)
        for error in errors(row.entities, spans)
    ]
    by_type: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, error in found:
        by_type[error.type][error.kind] += 1
    counts = Counter(error.kind for _, error in found)
    return {
        "counts": {kind: counts[kind] for kind in KINDS},
        "by_type": {
            name: {kind: seen[kind] for kind in KINDS} for name, seen in sorted(by_type.items())
        },
        "examples": {
            kind: [example(*pair) for pair in spread([p for p in found if p[1].kind == kind])]
            for kind in KINDS
            if counts[kind]
        },
    }


def spread(items: Sequence[tuple[Sentence, Error]]) -> list[tuple[Sentence, Error]]:
    places = np.unique(np.linspace(0, len(items) - 1, min(EXAMPLES, len(items))).round())
    return [items[int(i)] for i in places]


def example(row: Sentence, error: Error) -> dict[str, Any]:
    """An error with the words around it."""
    spans = spans_of(error)
    start = max(min(span.start for span in spans) - CONTEXT, 0)
    end = min(max(span.end for span in spans) + CONTEXT, len(row.words))
    return {
        "line": row.line,
        "text": words_of(row, Span(start, end, "")),
        "gold": shown(row, error.gold),
        "predicted": shown(row, error.predicted),
    }


def shown(row: Sentence, span: Span | None) -> dict[str, str] | None:
    return None if span is None else {"text": words_of(row, span), "label": span.type}


def words_of(row: Sentence, span: Span) -> str:
    return row.text[row.offsets[span.start][0] : row.offsets[span.end - 1][1]]


def by_novelty(
    train: Sequence[Sentence], rows: Sequence[Sentence], predicted: Sequence[Sequence[Span]]
) -> dict[str, Any]:
    """Strict scores apart for mentions that the training rows hold and for new ones; `forms` are
    the distinct texts among the gold mentions, and how many were found at least once."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    for row in train:
        for span in row.entities:
            known[form(row, span)].add(span.type)
    gold: Counter[str] = Counter()
    given: Counter[str] = Counter()
    right: Counter[str] = Counter()
    forms: dict[str, dict[tuple[str, str], bool]] = {name: {} for name in NOVELTY}
    for row, spans in zip(rows, predicted, strict=True):
        found = set(spans)
        for span in row.entities:
            key = (form(row, span), span.type)
            name = novelty(known, *key)
            gold[name] += 1
            right[name] += span in found
            forms[name][key] = forms[name].get(key, False) or span in found
        for span in spans:
            given[novelty(known, form(row, span), span.type)] += 1
    return {
        name: {
            **ratios(right[name], given[name], gold[name]),
            "forms": len(forms[name]),
            "forms_found": sum(forms[name].values()),
        }
        for name in NOVELTY
    }


def novelty(known: Mapping[str, set[str]], text: str, kind: str) -> str:
    types = known.get(text, set())
    return "seen" if kind in types else "other_type" if types else "unseen"


def form(row: Sentence, span: Span) -> str:
    return " ".join(row.words[span.start : span.end]).casefold()


def ratios(right: int, given: int, gold: int) -> dict[str, float]:
    """Precision, recall, F1 (0 where there is nothing to divide by) and the gold count."""
    return {
        "precision": right / given if given else 0.0,
        "recall": right / gold if gold else 0.0,
        "f1": 2 * right / (given + gold) if given + gold else 0.0,
        "support": gold,
    }
