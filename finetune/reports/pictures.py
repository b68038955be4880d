"""Pictures of an evaluation for TensorBoard: confusion, reliability, precision and recall."""

from finetune.evaluation import Scored
from finetune.prepare import Prepared
from finetune.reports import drawing, findings
from finetune.scores import precision_recall
from runtime.tracking import Tracker

SPLIT = "valid"


def show(tracker: Tracker, step: int, prepared: Prepared, scored: Scored, prefix: str = "") -> None:
    """Put an evaluation's pictures on TensorBoard; rank 0's tracker writes.

    They cost 0.1 to 0.6 seconds, most with 80 labels. `prefix` tells the tasks of one run apart.
    """
    if not tracker.is_writer:
        return
    found = findings.confusion_of(prepared, SPLIT, scored)
    if found is not None and found.counts.any():
        tracker.image(f"{prefix}confusion", drawing.png(drawing.confusion(found)), step)
    calibration = findings.analysis_of(prepared, SPLIT, scored).get("calibration") or {}
    if any(each["rows"] for each in calibration.get("bins", ())):
        picture = drawing.png(drawing.reliability(calibration["bins"]))
        tracker.image(f"{prefix}reliability", picture, step)
    curves = findings.curves_of(prepared, SPLIT, scored)
    for name, (positive, scores) in precision_recall.most_frequent(curves).items():
        tracker.pr_curve(f"{prefix}precision_recall/{name}", positive, scores, step)
