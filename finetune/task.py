"""What every task has in common: its recipe table and the records its plug-in works with.

A plug-in in `finetune/tasks/` is torch-free and provides
    Params(Task)                                  the recipe table
    HEAD                                          "token" or "sequence": which outputs are scored
    read(path, params) -> Dataset                 rows with gold labels, and what reading counted
    label_set(dataset, params) -> list[str]       from the training rows
    check_labels(dataset, labels)                 DataError at the first unknown label
    encode(dataset, tokenizer, labels, params, max_length) -> Encoded
    decode(dataset, encoded, logits, labels) -> list[prediction]      one a row, in row order
    score(dataset, predictions, labels) -> Scores
    baselines(train, dataset, labels) -> dict     metrics of predictors that need no model
    from_inputs(inputs, params) -> Dataset        rows to predict, from JSON objects, without labels
    answer(row, prediction, labels) -> dict       a prediction as JSON
A `Window` is one model input. Its logits, reduced to the scored outputs, are an array of one row
per target: for a token head the outputs at `positions`, for a sequence head the single output.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from runtime.config import Positive, PositiveFloat, Share
from runtime.recipe import RecipeTable

IGNORED = -100  # target of an output that is not scored, as torch's cross-entropy reads it
NonNegative = Annotated[float, Field(ge=0.0)]


class Task(RecipeTable):
    """One task: its files, its encoder and how it is trained."""

    kind: str  # plug-in in finetune/tasks/
    metric: str  # of the valid file: chooses the best checkpoint and stops early; higher is better
    train: Path  # rows that are trained on
    valid: Path  # rows that choose the best checkpoint
    test: Path | None = None  # rows that are scored once, at the end
    encoder: str | None = None  # folder or hub id; None: what the pretrain stage exported
    control_random_init: bool = (
        False  # also train the same architecture from scratch, same settings, and report both
    )
    epochs: Positive = 4  # passes over the training rows
    batch_size: Positive = 32  # model inputs per step, over all ranks
    micro_batch_size: Positive = 16  # at most, model inputs per rank per forward
    learning_rate: PositiveFloat = 1e-4  # peak
    weight_decay: NonNegative = 0.01  # of matrices, times the learning rate
    warmup_share: Share = 0.1  # of all steps
    decay: Literal["linear", "cosine", "constant"] = "linear"  # after the warm-up
    max_length: int | None = Field(
        default=None, ge=8
    )  # tokens per model input, special ones included; None: what the encoder allows, at most 512
    evaluations_per_epoch: Positive = 1  # on the valid rows, evenly spread
    patience: int | None = Field(
        default=None, ge=1
    )  # evaluations without a better `metric` before training stops; None: never
    seed: int | None = None  # of row order and head; None: the recipe's

    @model_validator(mode="after")
    def batches_fit(self) -> Self:
        if self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"micro_batch_size ({self.micro_batch_size}) must not exceed "
                f"batch_size ({self.batch_size})"
            )
        return self


@dataclass(frozen=True)
class Dataset:
    """The rows of one file and what reading them counted."""

    path: Path
    rows: list[Any]
    counts: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """One model input and the outputs of it that are scored."""

    row: int  # index into Dataset.rows
    input_ids: NDArray[np.int32]  # (T,)
    token_type_ids: NDArray[np.int32] | None  # (T,); only for pairs
    positions: NDArray[np.int64]  # (N,) scored outputs; a sequence head has the single 0
    targets: NDArray[np.int64]  # (N,) label ids, IGNORED where no label is known
    words: NDArray[np.int64]  # (N,) which word of the row each belongs to; a sequence head: 0


@dataclass(frozen=True)
class Encoded:
    """A data set as model inputs, and what encoding counted (cut tokens, words without tokens)."""

    windows: list[Window]  # in row order
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """What a model scored on one file: numbers to track and the full report."""

    metrics: dict[str, float]
    report: dict[str, Any]
