"""The recipe table of a search. Imports neither torch nor optuna."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtime.config import Positive
from runtime.recipe import RecipeTable

Number = int | float
Value = str | bool | int | float


class Range(RecipeTable):
    """Values a setting may take: a range of numbers, or a list."""

    low: Number | None = None  # smallest value; whole numbers are drawn if low and high are whole
    high: Number | None = None  # largest value
    log: bool = False  # draw by order of magnitude
    step: Number | None = None  # between values; None: any number of the range
    values: tuple[Value, ...] | None = Field(default=None, min_length=1)  # in place of a range

    @model_validator(mode="after")
    def is_range_or_list(self) -> Self:
        given = [name for name in ("low", "high", "step") if getattr(self, name) is not None]
        if self.values is not None:
            if given or self.log:
                raise ValueError(
                    f"give low and high, or values; both are here ({', '.join(given) or 'log'})"
                )
            if len({(type(value), value) for value in self.values}) < len(self.values):
                raise ValueError(f"values {self.values} name a value twice")
        elif self.low is None or self.high is None:
            raise ValueError("give low and high, or values")
        return self

    @model_validator(mode="after")
    def can_be_drawn(self) -> Self:
        numbers = [value for value in (self.low, self.high, self.step) if value is not None]
        numbers += [value for value in self.values or () if isinstance(value, float)]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"every number must be finite; given: {numbers}")
        if self.low is None or self.high is None:
            return self
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0 and no step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(
                f"step ({self.step}) must be above 0 and at most high - low "
                f"({self.high - self.low})"
            )
        if self.is_whole and isinstance(self.step, float):
            raise ValueError(
                f"low and high are whole numbers and step is {self.step}: write low = "
                f"{float(self.low)} for a range of any numbers"
            )
        return self

    @property
    def is_whole(self) -> bool:
        """True if only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def is_countable(self) -> bool:
        """True if a grid can hold all values."""
        return self.values is not None or self.step is not None or (self.is_whole and not self.log)


class Search(RecipeTable):
    """Which settings are tried, how, and on what."""

    target: str | None = None  # task or [multitask] whose metric is searched; None: the only one
    space: dict[str, Range] = Field(
        default_factory=dict
    )  # by key path of the recipe, for example "tasks.ner.learning_rate"
    sampler: Literal["grid", "random", "tpe", "gp"] = "tpe"  # how the next trial is chosen
    pruner: Literal["none", "median", "hyperband"] = "median"  # when a trial is given up early
    trials: Positive = 20  # finished or pruned ones; grid: not used, every point is tried once
    startup_trials: Positive = 5  # first ones, drawn at random (tpe, gp), none pruned (median)
    parallel: Positive = 1  # trials at a time, over which cores, GPUs, hosts or nodes are divided
    folds: Annotated[int, Field(ge=2)] | None = (
        None  # cross-validate each trial; None: score the valid rows
    )
    top: Annotated[int, Field(ge=0)] = 3  # best trials that are run again ...
    top_seeds: Positive = 3  # ... over this many seeds, none of them the trials'; 0 top: not at all

    @model_validator(mode="after")
    def grid_is_finite(self) -> Self:
        endless = [key for key, found in self.space.items() if not found.is_countable]
        if self.sampler == "grid" and endless:
            raise ValueError(
                f'sampler = "grid" needs `values` or a `step` for {", ".join(endless)}; '
                "or choose another sampler"
            )
        return self
