"""What every task has in common: its recipe table and the records its plug-in works with.

A plug-in in `finetune/tasks/` is torch-free and provides
    Params(Task)                                  the recipe table
    HEAD                                          "token" or "sequence": which outputs are scored
    read(path, params) -> Dataset                 rows with gold labels, and what reading counted
    label_set(dataset, params) -> list[str]       from the training rows: one name an output
    check_labels(dataset, labels)                 DataError at the first unknown label
    loss(dataset, labels, params) -> Loss         how outputs are trained, from the training rows
    encode(dataset, tokenizer, labels, params, max_length) -> Encoded
    decode(dataset, encoded, logits, labels, decoding) -> list[prediction]   one a row, in row order
    calibrate(dataset, encoded, logits, labels, decoding) -> decoding    fitted on valid rows
    score(dataset, predictions, labels) -> Scores
    baselines(train, dataset, labels) -> dict     metrics of predictors that need no model
    groups(dataset) -> list[int]                  document of every row: folds never cut one
    texts(row) -> tuple[str, ...]                 what leak checks compare
    from_inputs(inputs, params) -> Dataset        rows to predict, from JSON objects, without labels
    answer(row, prediction, labels) -> dict       a prediction as JSON
and, where predictions are what reaches a probability,
    with_threshold(decoding, threshold, labels) -> decoding
A `Window` is one model input. Its logits, reduced to the scored outputs, are an array of one row
per target: for a token head the outputs at `positions`, for a sequence head the single output.
`decoding` is a JSON object that travels with the model: it begins as `Loss.decoding` (with the
transitions of a CRF, which training fits), `calibrate` adds to it, `decode` obeys it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from finetune.augmentation.augmenting import AnyAugmentation
from runtime.config import Positive, PositiveFloat, Share
from runtime.recipe import RecipeTable

IGNORED = -100  # target of an output that is not scored, as torch's cross-entropy reads it
NonNegative = Annotated[float, Field(ge=0.0)]


class Training(RecipeTable):
    """How a model is fine-tuned: alone (a task) or on several tasks at once."""

    encoder: str | None = None  # folder or hub id; None: what the pretrain stage exported
    epochs: Positive = 4  # passes over the training rows
    batch_size: Positive = 32  # model inputs per step, over all ranks
    micro_batch_size: Positive = 16  # at most, model inputs per rank per forward
    learning_rate: PositiveFloat = 1e-4  # peak
    head_learning_rate: PositiveFloat | None = (
        None  # peak of the layers above the encoder; None: learning_rate
    )
    layer_decay: PositiveFloat = (
        1.0  # learning rate of a layer relative to the one above it; embeddings are the lowest
    )
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
    seeds: tuple[int, ...] | None = Field(
        default=None, min_length=1
    )  # one training run each, of row order and head; the best on valid is kept; None: the recipe's

    @model_validator(mode="after")
    def batches_fit(self) -> Self:
        if self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"micro_batch_size ({self.micro_batch_size}) must not exceed "
                f"batch_size ({self.batch_size})"
            )
        if self.layer_decay > 1.0:
            raise ValueError(f"layer_decay ({self.layer_decay}) must not exceed 1")
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} name a seed twice")
        return self


class Split(RecipeTable):
    """Rows of a data set of the `datasets` library: of a hub, or of a folder of its files."""

    dataset: str  # hub id, or folder
    split: str  # for example "train", or "train[:10%]"
    config: str | None = None  # the data set's configuration; None: its only one
    revision: str | None = None  # commit or tag on the hub; None: the newest


Source = Path | Split


class Task(Training):
    """One task: its files, its encoder and how it is trained."""

    kind: str  # plug-in in finetune/tasks/
    metric: str  # of the valid file: chooses the best checkpoint and stops early; higher is better
    train: Source  # rows that are trained on
    valid: Source | None = None  # rows that choose the best checkpoint; None: held out of train
    valid_every: Annotated[int, Field(ge=2)] = (
        10  # without `valid`: every n-th training row (or document) is held out
    )
    test: Source | None = None  # rows that are scored once, at the end
    augment: tuple[AnyAugmentation, ...] = ()  # new training rows, each made from the rows as read
    alone: bool = True  # train it by itself; false: only as a part of a [multitask]
    control_random_init: bool = (
        False  # also train the same architecture from scratch, same settings, and report both
    )


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
    # (N,) int64 label ids, IGNORED where no label is known; of a task with several values an output
    # (N, L) float32, NaN where not known
    targets: NDArray[Any]
    words: NDArray[np.int64]  # (N,) which word of the row each belongs to; a sequence head: 0
    chains: tuple[int, ...] | None = None  # sizes of what a CRF takes as chains; None: one of all N

    @property
    def chain_sizes(self) -> tuple[int, ...]:
        return (len(self.positions),) if self.chains is None else self.chains


@dataclass(frozen=True)
class Encoded:
    """A data set as model inputs, and what encoding counted (cut tokens, words without tokens)."""

    windows: list[Window]  # in row order
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """How a task's outputs are trained; finetune/losses.py computes it, summed over the targets."""

    kind: Literal["cross_entropy", "focal", "binary", "squared", "crf"] = "cross_entropy"
    class_weights: tuple[float, ...] | None = None  # (L,) of each label's targets; None: all 1
    gamma: float = 0.0  # of the focal loss (Lin et al. 2017, arXiv 1708.02002)
    decoding: Mapping[str, Any] = field(default_factory=dict)  # what decode starts with


@dataclass(frozen=True)
class Scores:
    """What a model scored on one file: numbers to track and the full report."""

    metrics: dict[str, float]
    report: dict[str, Any]
