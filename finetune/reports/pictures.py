"""Pictures of scores: confusion matrices and precision-recall curves."""

from finetune.evaluation import Scored
from finetune.prepare import Prepared
from runtime.tracking import Tracker


def show(tracker: Tracker, step: int, prepared: Prepared, scored: Scored) -> None:
    """Put an evaluation's pictures on TensorBoard; rank 0's tracker writes."""
