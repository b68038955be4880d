"""The recipe tables of pretraining.

They live here, not beside the code that uses them, because that code imports torch and checking a
recipe must not.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

import data_prep.config
from runtime.config import Positive, PositiveFloat, Share
from runtime.recipe import RecipeTable


class Model(RecipeTable):
    """The encoder: a shape to start from scratch, or a checkpoint to continue."""

    checkpoint: str | None = (
        None  # folder or hub id to continue from; the shape below is then ignored
    )
    architecture: Literal["modernbert", "bert", "roberta", "ultrabert"] = (
        "modernbert"  # transformers class
    )
    num_layers: Positive = 22  # of the encoder
    hidden_size: Positive = 768  # width of a token's vector
    num_heads: Positive = 12  # of attention; must divide hidden_size
    intermediate_size: Positive = 1152  # of the feed-forward layers
    max_positions: Positive | None = None  # longest input in tokens; None: the samples' length
    local_window: Positive = (
        128  # ModernBERT, UltraBERT: tokens attended around a token in local layers
    )
    global_every: Positive = (
        3  # ModernBERT, UltraBERT: every n-th layer attends to the whole document
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # everywhere the architecture has one

    @model_validator(mode="after")
    def heads_divide(self) -> Self:
        if self.checkpoint is not None:
            fields = type(self).model_fields
            given = sorted(
                name for name in fields
                if name != "checkpoint" and getattr(self, name) != fields[name].default
            )  # fmt: skip
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
    # Share at the end of the run, reached in a straight line; None: mask_share throughout.
    mask_share_end: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    # What is masked whole: tokens, the tokens of a word, or runs of words (Joshi et al. 2020).
    unit: Literal["token", "word", "span"] = "token"
    mean_span_words: PositiveFloat = 3.8  # span: mean of the geometric length on 1..max_span_words
    max_span_words: Positive = 10  # span: longest

    @model_validator(mode="after")
    def shares_fit(self) -> Self:
        if self.replace_by_mask + self.replace_by_random > 1:
            raise ValueError(
                f"replace_by_mask ({self.replace_by_mask}) + replace_by_random "
                f"({self.replace_by_random}) must not exceed 1"
            )
        if self.unit == "span" and not 1 <= self.mean_span_words < (self.max_span_words + 1) / 2:
            raise ValueError(
                f"mean_span_words ({self.mean_span_words}) must be at least 1 and below "
                f"{(self.max_span_words + 1) / 2}, the mean if every length up to max_span_words "
                f"({self.max_span_words}) were as frequent"
            )
        return self


class Guard(RecipeTable):
    """Which updates are refused, and when a run goes back."""

    spike_sigmas: PositiveFloat | None = 6.0  # above the mean gradient norm; None: never a spike
    window_steps: Positive = 128  # updates that mean and deviation are taken of
    max_skips_in_a_row: Positive = 8  # then the run goes back to its newest checkpoint
    max_rollbacks: Annotated[int, Field(ge=0)] = 3  # then it ends with exit code 4


class Phase(RecipeTable):
    """A part of the training; phases follow each other."""

    share: Annotated[float, Field(gt=0.0, le=1.0)]  # of train.total_tokens; all sum to 1
    sequence_length: Positive | None = None  # tokens a sample; None: as the shards are packed
    # Share of each source in this phase, any scale; a source left out has none; empty: [mixture].
    weights: dict[str, PositiveFloat] = Field(default={})


class Probe(RecipeTable):
    """A small task, fine-tuned on the encoder every so often while it is pretrained."""

    task: str  # name of a table in [tasks]
    every_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25  # of the run between two probes
    max_minutes: PositiveFloat = 15.0  # of one probe; a longer one is ended and reported as failed


class Train(RecipeTable):
    """How long and in which portions the encoder is trained."""

    total_tokens: Positive  # of training, padding included; rounded up to whole steps
    global_batch_size: Positive = 256  # samples per optimizer step over all ranks
    micro_batch_size: Positive = 16  # samples per rank per forward
    evaluate_every_steps: Positive = 500  # and before the first step and after the last
    validation_samples: Positive = 256  # per source, at most, at every evaluation
    budget_minutes: PositiveFloat | None = None  # wall clock after which the run ends; None: no end
    ramp_from: Positive | None = (
        None  # samples a step at the start, doubled up to global_batch_size
    )
    ramp_share: Share = 0.1  # of the tokens over which the batch grows; needs ramp_from
    phases: list[Phase] = Field(default=[])  # empty: one
    export_at: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(
        default=[]
    )  # shares of the run
    average_last: Positive | None = None  # checkpoints averaged into a second export; None: none
    probes: list[Probe] = Field(default=[])  # plotted beside the loss

    @model_validator(mode="after")
    def batches_double(self) -> Self:
        if self.ramp_from is None:
            return self
        sizes = [self.global_batch_size]
        while sizes[0] % 2 == 0:
            sizes.insert(0, sizes[0] // 2)
        if self.ramp_from not in sizes[:-1]:
            below = [size for size in sizes[:-1] if size < self.ramp_from][-1:]
            above = [size for size in sizes[:-1] if size > self.ramp_from][:1]
            told = " or ".join(map(str, below + above)) or "none: an odd number has no half"
            raise ValueError(
                f"ramp_from ({self.ramp_from}) must reach global_batch_size "
                f"({self.global_batch_size}) by doubling; nearest: {told}"
            )
        if self.ramp_from % self.micro_batch_size:
            fitting = [size for size in sizes[:-1] if size % self.micro_batch_size == 0]
            raise ValueError(
                f"ramp_from ({self.ramp_from}) must be a multiple of micro_batch_size "
                f"({self.micro_batch_size}); nearest: {min(fitting, default='no smaller batch')}"
            )
        if not 0 < self.ramp_share < 1:
            raise ValueError(
                f"with ramp_from, ramp_share ({self.ramp_share}) must be above 0 and below 1: the "
                "batch grows over it and is global_batch_size afterwards"
            )
        return self

    @model_validator(mode="after")
    def phases_are_the_run(self) -> Self:
        total = sum(phase.share for phase in self.phases)
        if self.phases and abs(total - 1) > 1e-6:
            before = total - self.phases[-1].share
            nearest = f"; nearest: {1 - before:.6g} for the last" if before < 1 else ""
            raise ValueError(
                f"the shares of phases must sum to 1, they sum to {total:.6g}{nearest}"
            )
        return self

    @model_validator(mode="after")
    def probes_have_names_of_their_own(self) -> Self:
        names = [probe.task for probe in self.probes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"task {', '.join(twice)} is probed twice; keep one entry a task")
        return self


class Recipe(data_prep.config.Recipe):
    """What pretraining reads from a recipe."""

    model: Model | None = None
    objective: Objective = Objective()
    train: Train | None = None
    guard: Guard = Guard()

    @model_validator(mode="after")
    def model_is_trained(self) -> Self:
        if (self.model is None) != (self.train is None):
            present, absent = ("model", "train") if self.model else ("train", "model")
            raise ValueError(
                f"[{present}] needs [{absent}]: pretraining takes both tables or neither"
            )
        return self

    @model_validator(mode="after")
    def averaged_checkpoints_are_kept(self) -> Self:
        count = self.train.average_last if self.train else None
        kept = self.checkpoint.keep_last
        if count is not None and count > kept:
            raise ValueError(
                f"train.average_last ({count}) needs {count} checkpoints on disk, "
                f"checkpoint.keep_last is {kept}; nearest: checkpoint.keep_last = {count}, or "
                f"train.average_last = {kept}"
            )
        return self

    @model_validator(mode="after")
    def one_decides_on_weights(self) -> Self:
        phases = self.train.phases if self.train else []
        changed = len(phases) > 1 or any(phase.weights for phase in phases)
        if self.mixture.strategy == "online" and changed:
            raise ValueError(
                'mixture.strategy = "online" changes the weights itself: remove train.phases, or '
                "choose another strategy"
            )
        return self
