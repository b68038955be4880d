"""The recipe tables of pretraining.

They live here, not beside the code that uses them, because that code imports torch and checking a
recipe must not.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

import data_prep.config
from runtime.config import Positive, Share
from runtime.recipe import RecipeTable


class Model(RecipeTable):
    """The encoder: a shape to start from scratch, or a checkpoint to continue."""

    checkpoint: str | None = (
        None  # folder or hub id to continue from; the shape below is then ignored
    )
    architecture: Literal["modernbert", "bert", "roberta"] = "modernbert"  # transformers class
    num_layers: Positive = 22  # of the encoder
    hidden_size: Positive = 768  # width of a token's vector
    num_heads: Positive = 12  # of attention; must divide hidden_size
    intermediate_size: Positive = 1152  # of the feed-forward layers
    max_positions: Positive | None = None  # longest input in tokens; None: the samples' length
    local_window: Positive = 128  # ModernBERT: tokens attended around a token in local layers
    global_every: Positive = 3  # ModernBERT: every n-th layer attends to the whole document
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # everywhere the architecture has one

    @model_validator(mode="after")
    def heads_divide(self) -> Self:
        if self.checkpoint is not None:
            given = sorted(self.model_fields_set - {"checkpoint"})
            if given:
                raise ValueError(
                    f"model.checkpoint brings its own shape, so {', '.join(given)} would be "
                    "ignored; remove them or remove checkpoint"
                )
        elif self.hidden_size % self.num_heads:
            below = self.num_heads * (self.hidden_size // self.num_heads)
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_heads "
                f"({self.num_heads}); nearest: {below} or {below + self.num_heads}"
            )
        return self


class Objective(RecipeTable):
    """Masked-language modelling (Devlin et al. 2019); validation always masks 15 %."""

    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3  # of text tokens that become targets
    replace_by_mask: Share = 0.8  # of the targets
    replace_by_random: Share = 0.1  # of the targets; the rest is kept as it is

    @model_validator(mode="after")
    def shares_fit(self) -> Self:
        if self.replace_by_mask + self.replace_by_random > 1:
            raise ValueError(
                f"replace_by_mask ({self.replace_by_mask}) + replace_by_random "
                f"({self.replace_by_random}) must not exceed 1"
            )
        return self


class Train(RecipeTable):
    """How long and in which portions the encoder is trained."""

    total_tokens: Positive  # of training, padding included; rounded up to whole steps
    global_batch_size: Positive = 256  # samples per optimizer step over all ranks
    micro_batch_size: Positive = 16  # samples per rank per forward
    evaluate_every_steps: Positive = 500  # and before the first step and after the last
    validation_samples: Positive = 256  # per source, at most, at every evaluation


class Recipe(data_prep.config.Recipe):
    """What pretraining reads from a recipe."""

    model: Model | None = None
    objective: Objective = Objective()
    train: Train | None = None

    @model_validator(mode="after")
    def model_is_trained(self) -> Self:
        if (self.model is None) != (self.train is None):
            present, absent = ("model", "train") if self.model else ("train", "model")
            raise ValueError(
                f"[{present}] needs [{absent}]: pretraining takes both tables or neither"
            )
        return self
