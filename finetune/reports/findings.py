"""What predictions of a file show beside their scores: confusion, curves, intervals, errors.

A plug-in may leave out `curves`, `analysis`, `final_report` and what intervals are made from; the
report then has none.
"""

from typing import Any

from finetune.evaluation import Scored
from finetune.prepare import Prepared
from finetune.scores import bootstrap, confusion, precision_recall
from finetune.scores.confusion import Confusion


def of(prepared: Prepared, split: str, scored: Scored) -> dict[str, Any]:
    """All of it as JSON; what does not apply to a task is None or empty."""
    found = confusion_of(prepared, split, scored)
    return {
        "intervals": intervals_of(prepared, split, scored),
        "confusion": None if found is None else found.as_json(),
        "curves": precision_recall.points(curves_of(prepared, split, scored)),
        "analysis": analysis_of(prepared, split, scored),
        "final": final_of(prepared, split, scored),
    }


def confusion_of(prepared: Prepared, split: str, scored: Scored) -> Confusion | None:
    """Of entity types, or of classes; None where a row has no single label."""
    if prepared.plugin.HEAD == "token":
        rows = prepared.data[split].rows
        predicted = [prediction.tags for prediction in scored.predictions]
        return confusion.of_spans([row.tags for row in rows], predicted)
    report = scored.scores.report
    if "confusion" not in report:
        return None
    return confusion.of_classes(report["labels"], report["confusion"])


def curves_of(prepared: Prepared, split: str, scored: Scored) -> dict[str, precision_recall.Scored]:
    """By label or entity type: what is positive, and how sure the model was."""
    find = getattr(prepared.plugin, "curves", None)
    if find is None:
        return {}
    found: dict[str, precision_recall.Scored] = find(
        prepared.data[split], scored.predictions, prepared.labels
    )
    return found


def intervals_of(prepared: Prepared, split: str, scored: Scored) -> dict[str, dict[str, float]]:
    """Of each metric that can choose a model, the bounds between which it lies with 95 %."""
    if not hasattr(prepared.plugin, "row_counts"):
        return {}
    return bootstrap.intervals(
        prepared.plugin,
        prepared.data[split],
        scored.predictions,
        prepared.labels,
        bootstrap.metrics_of(prepared.plugin),
    )


def analysis_of(prepared: Prepared, split: str, scored: Scored) -> dict[str, Any]:
    """Kinds of errors with examples, and how far confidences can be believed."""
    find = getattr(prepared.plugin, "analysis", None)
    if find is None:
        return {}
    found: dict[str, Any] = find(
        prepared.data["train"],
        prepared.data[split],
        scored.predictions,
        prepared.labels,
        prepared.task,
    )
    return found


def final_of(prepared: Prepared, split: str, scored: Scored) -> dict[str, Any]:
    """What is too slow for every evaluation: seqeval's own reports, the table of tokens."""
    find = getattr(prepared.plugin, "final_report", None)
    if find is None:
        return {}
    found: dict[str, Any] = find(prepared.data[split], scored.predictions, prepared.labels)
    return found
