"""What tags are worth: entities and tokens, as numbers and as reports.

Entities are scored strictly in scheme IOB2: an entity counts only if its words and its type are
exactly right. Mode and scheme are part of every report, because seqeval's default mode gives other
numbers for the same tags. The numbers of each evaluation are counted here, in a few hundredths of a
second; the reports at the end come from seqeval itself, and tests hold the two equal. Scores whose
denominator is 0 are 0.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.ner import tags
from finetune.task import Scores

AVERAGES = ("micro", "macro", "weighted")
Span = tuple[str, int, int]  # type, first word, word after the last
Floats = NDArray[np.float64]


def tagging(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> Scores:
    """Strict entity scores by type and token scores by tag, of IOB2 tags."""
    entities = strict_entities(gold, predicted)
    tokens = token_report(gold, predicted, labels)
    metrics = {name: entities["micro"][name] for name in ("precision", "recall", "f1")}
    metrics["macro_f1"] = entities["macro"]["f1"]
    metrics["token_accuracy"] = tokens["accuracy"]
    metrics["token_f1"] = tokens["without_outside"]["micro"]["f1"]
    return Scores(metrics, {"entities": entities, "tokens": tokens})


def tagging_final(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, Any]:
    """What is printed once, at the end: seqeval's reports in both modes and the table of tokens."""
    modes: tuple[str | None, ...] = ("strict", None)
    return {
        "seqeval": {mode or "default": seqeval_report(gold, predicted, mode) for mode in modes},
        "token_table": token_table(token_report(gold, predicted, labels)),
    }


def strict_entities(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Precision, recall and F1 by entity type and averaged."""
    right, guessed, wanted = Counter[str](), Counter[str](), Counter[str]()
    for gold_row, predicted_row in zip(gold, predicted, strict=True):
        true, found = strict_spans(gold_row), strict_spans(predicted_row)
        wanted.update(kind for kind, _, _ in true)
        guessed.update(kind for kind, _, _ in found)
        right.update(kind for kind, _, _ in true & found)
    types = sorted(wanted.keys() | guessed.keys())
    sums = [np.array([count[name] for name in types]) for count in (right, guessed, wanted)]
    by_type, averages = scored_labels(types, *sums)
    return {"scheme": "IOB2", "mode": "strict", "by_type": by_type, **averages}


def strict_spans(row: Sequence[str]) -> set[Span]:
    """The entities of IOB2 tags. An I that continues nothing is no entity, as in seqeval."""
    found: set[Span] = set()
    start, kind = 0, ""  # of the entity that is open; no type: none is
    for i, tag in enumerate((*row, tags.OUTSIDE)):
        if kind and tag[0] == "I" and tag[2:] == kind:
            continue
        if kind:
            found.add((kind, start, i))
        start, kind = (i, tag[2:]) if tag[0] == "B" else (i, "")
    return found


def token_report(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, Any]:
    """Scores by tag, with and without the tag of words outside entities."""
    flat_gold = [tag for row in gold for tag in row]
    flat_predicted = [tag for row in predicted for tag in row]
    named = [label for label in labels if label != tags.OUTSIDE]
    right = sum(map(str.__eq__, flat_gold, flat_predicted))
    return {
        "num_tokens": len(flat_gold),
        "accuracy": ratio(right, len(flat_gold)),
        "with_outside": by_label(flat_gold, flat_predicted, labels),
        "without_outside": by_label(flat_gold, flat_predicted, named),
    }


def by_label(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall and F1 of each of these labels, and averaged over them."""
    sums = label_sums(ids_of(gold, labels), ids_of(predicted, labels), len(labels))
    each, averages = scored_labels(labels, *sums)
    return {"by_label": each, **averages}


def ids_of(names: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """Labels as numbers; one that is not in the set has the number behind the last."""
    ids = {label: i for i, label in enumerate(labels)}
    return np.fromiter((ids.get(name, len(ids)) for name in names), np.int64, len(names))


def label_sums(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], num_labels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """How often each label is right, predicted, and gold."""
    right = gold[gold == predicted]
    found = (np.bincount(ids, minlength=num_labels + 1) for ids in (right, predicted, gold))
    a, b, c = (counts[:num_labels] for counts in found)
    return a, b, c


def scored_labels(
    labels: Sequence[str],
    right: NDArray[np.int64],
    predicted: NDArray[np.int64],
    gold: NDArray[np.int64],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of each label, and their averages."""
    columns = precision_recall_f1(right, predicted, gold)
    each = {
        label: line([column[i] for column in columns], gold[i]) for i, label in enumerate(labels)
    }
    support = int(gold.sum())
    micro = precision_recall_f1(right.sum(), predicted.sum(), gold.sum())
    shares = gold / max(support, 1)
    averages = {
        "micro": line(micro, support),
        "macro": line([c.mean() if len(c) else 0.0 for c in columns], support),
        "weighted": line([(c * shares).sum() for c in columns], support),
    }
    return each, averages


def line(scores: Sequence[Any], support: int) -> dict[str, float]:
    """One line of a report, of precision, recall and F1."""
    names = ("precision", "recall", "f1")
    return {**dict(zip(names, map(float, scores), strict=True)), "support": int(support)}


def precision_recall_f1(right: Any, predicted: Any, gold: Any) -> tuple[Floats, Floats, Floats]:
    """The three scores of counts, elementwise; 0 where a denominator is."""
    return (
        divided(right, predicted),
        divided(right, gold),
        divided(2 * np.asarray(right), np.asarray(predicted) + np.asarray(gold)),
    )


def divided(numerator: Any, denominator: Any) -> Floats:
    """Elementwise quotients, 0 where the denominator is."""
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)


def ratio(part: float, whole: float) -> float:
    """A share, 0 of nothing."""
    return part / whole if whole else 0.0


def entity_row_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], types: Sequence[str]
) -> Floats:
    """What each sentence contributes, (rows, 3 T + 2): entities right, predicted and gold of each
    type (strict), then tokens right and tokens."""
    places = {name: i for i, name in enumerate(types)}
    num_types = len(types)
    found = np.zeros((len(gold), 3 * num_types + 2))
    for i, (gold_row, predicted_row) in enumerate(zip(gold, predicted, strict=True)):
        true, guessed = strict_spans(gold_row), strict_spans(predicted_row)
        for number, spans in enumerate((true & guessed, guessed, true)):
            for kind, _, _ in spans:
                found[i, number * num_types + places[kind]] += 1
        found[i, -2:] = sum(map(str.__eq__, gold_row, predicted_row)), len(gold_row)
    return found


def of_entity_counts(totals: Floats, metric: str) -> Floats:
    """A metric of sums (..., 3 T + 2) of such contributions."""
    if metric == "token_accuracy":
        return divided(totals[..., -2], totals[..., -1])
    right, guessed, wanted = np.split(totals[..., :-2], 3, axis=-1)
    if metric == "macro_f1":  # over the types that are met, as `strict_entities` averages
        is_met = (guessed + wanted) > 0
        each = precision_recall_f1(right, guessed, wanted)[2]
        return divided(each.sum(axis=-1), is_met.sum(axis=-1))
    scores = precision_recall_f1(*(part.sum(axis=-1) for part in (right, guessed, wanted)))
    return scores[("precision", "recall", "f1").index(metric)]


def seqeval_report(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], mode: str | None
) -> dict[str, Any]:
    """seqeval's own report: strict IOB2, or its default mode (None), which reads any prefix as
    conlleval does."""
    # Slow to import; scores of every evaluation do without.
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    strictly = mode == "strict"
    named = {"scheme": "IOB2" if strictly else None, "mode": mode or "default"}
    if not any(tags.spans(row) for rows in (gold, predicted) for row in rows):
        nothing = line([0, 0, 0], 0)
        return {**named, "by_type": {}, **dict.fromkeys(AVERAGES, nothing)}
    with undefined_is_zero():
        report = classification_report(
            list(map(list, gold)), list(map(list, predicted)),
            mode=mode, scheme=IOB2 if strictly else None, output_dict=True, zero_division=0,
        )  # fmt: skip
    averages = {average: seqeval_line(report.pop(f"{average} avg")) for average in AVERAGES}
    by_type = {name: seqeval_line(found) for name, found in report.items()}
    return {**named, "by_type": by_type, **averages}


def seqeval_line(found: Mapping[str, Any]) -> dict[str, float]:
    """One line of seqeval's report under our names."""
    return line([found[name] for name in ("precision", "recall", "f1-score")], found["support"])


def token_table(report: Mapping[str, Any]) -> str:
    """A token report as scikit-learn prints one: every tag, then the averages with `O` and
    without it, by which the same tags look much worse."""
    outside = report["with_outside"]["by_label"].get(tags.OUTSIDE)
    rows = dict(sorted(report["without_outside"]["by_label"].items(), key=by_type_then_prefix))
    rows |= {} if outside is None else {tags.OUTSIDE: outside}
    sections = (("", "with_outside"), (" without O", "without_outside"))
    for suffix, name in sections:
        rows |= {f"{average} avg{suffix}": report[name][average] for average in AVERAGES}
    width = max(map(len, rows))
    titles = ("precision", "recall", "f1", "support")
    lines = [" " * width + "".join(f"{title:>11}" for title in titles)]
    for name, found in rows.items():
        if name.startswith("micro avg"):
            lines.append("")
        scores = "".join(f"{found[title]:11.3f}" for title in titles[:3])
        lines.append(f"{name:>{width}}{scores}{found['support']:11d}")
    tokens = f"{report['num_tokens']:,} tokens, {report['accuracy']:.4f} of them right"
    return "\n".join([*lines, "", tokens])


def by_type_then_prefix(item: tuple[str, Any]) -> tuple[str, str]:
    return item[0][2:], item[0]


@contextmanager
def undefined_is_zero() -> Iterator[None]:
    """Silence what the libraries say about scores without a denominator: they are 0 by contract."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
