"""Which new rows a trained model agrees with: a filter for augmentation, whatever made the rows.

Of a sentence, the model must find exactly its entities; of texts, it must predict their label (each
of several) with some probability. A model that was trained on few rows errs often: what it throws
away is then also what it could have learnt from.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.augmentation import edits
from runtime.errors import DataError


def agrees(rows: Sequence[Any], folder: Path, min_probability: float) -> list[bool]:
    """Of every row whether the exported task model in a folder predicts its labels.

    Raises DataError if it is no model for such rows.
    """
    from finetune import predict  # late: imports torch
    from finetune.task import Dataset  # late: its module needs the one this filter is part of

    predictor = predict.load(folder)
    is_tagged = hasattr(rows[0], "entities") if rows else False
    is_number = bool(rows) and isinstance(getattr(rows[0], "label", None), float)
    if rows and (is_number or is_tagged != (predictor.plugin.HEAD == "token")):
        raise DataError(
            f"filter_model {folder} is a model for {predictor.task.kind!r}, which predicts no "
            "label of these rows; give the export of a model of this task, or remove it"
        )
    # Without their document, which would show each copy beside others.
    alone = [replace(row, document=None) for row in rows] if is_tagged else list(rows)
    predictions = predictor.predictions(Dataset(Path("augmented"), alone))
    pairs = list(zip(alone, predictions, strict=True))
    if is_tagged:
        return [list(found.entities) == list(row.entities) for row, found in pairs]
    answers = [predictor.plugin.answer(row, found, predictor.labels) for row, found in pairs]
    return [
        is_answer(row, answer, min_probability) for row, answer in zip(rows, answers, strict=True)
    ]


def is_answer(row: Any, answer: dict[str, Any], min_probability: float) -> bool:
    """True if a model's answer is a row's label, or all of its labels and no other."""
    wanted = edits.labels_of(row)
    found = answer["labels"] if "labels" in answer else [answer["label"]]
    sure = answer["probabilities"]
    return sorted(wanted) == sorted(found) and all(sure[name] >= min_probability for name in wanted)
