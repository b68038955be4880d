"""The recipe table of a search. Imports neither torch nor optuna."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtime.config import Positive
from runtime.recipe import RecipeTable

Number = int | float


class Range(RecipeTable):
    """Values a setting may take: a range of numbers, or a list."""

    low: Number | None = None  # smallest value
    high: Number | None = None  # largest value
    log: bool = False  # draw by order of magnitude
    step: Number | None = None  # between values; None: any number of the range
    values: tuple[str | bool | int | float, ...] | None = None  # in place of a range

    @model_validator(mode="after")
    def is_range_or_list(self) -> Self:
        is_range = self.low is not None and self.high is not None
        if is_range == (self.values is not None):
            raise ValueError("give low and high, or values")
        return self


class Search(RecipeTable):
    """Which settings are tried, how, and on what."""

    target: str | None = None  # task or [multitask] whose metric is searched; None: the only one
    space: dict[str, Range] = Field(
        default_factory=dict
    )  # by key path of the recipe, for example "tasks.ner.learning_rate"
    sampler: Literal["grid", "random", "tpe", "gp"] = "tpe"  # how the next trial is chosen
    pruner: Literal["none", "median", "hyperband"] = "median"  # when a trial is given up early
    trials: Positive = 20  # finished or pruned ones; a grid ends when all its points are done
    parallel: Positive = 1  # trials at a time
    folds: Annotated[int, Field(ge=2)] | None = (
        None  # cross-validate each trial; None: on the valid rows
    )
    top: Annotated[int, Field(ge=0)] = 3  # best trials that are run again ...
    top_seeds: Positive = 3  # ... over this many seeds
