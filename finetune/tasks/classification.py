"""Sequence classification."""

from typing import Literal

from finetune.task import Task


class Params(Task):
    """One label for a text or a pair of texts."""

    kind: Literal["classification"] = "classification"
    format: Literal["csv", "tsv", "jsonl"] | None = None  # None: by file name
    text_field: str | int = "text"  # a number is a column of a file without a header line
    text_pair_field: str | int | None = None
    label_field: str | int = "label"
    labels: tuple[str, ...] | None = None  # None: those of the training file, sorted
    metric: Literal["accuracy", "macro_f1", "mcc"] = "accuracy"
