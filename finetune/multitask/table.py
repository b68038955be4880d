"""The recipe table of a multi-task model. Imports no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from finetune.task import Training
from runtime.config import PositiveFloat


class MultiTask(Training):
    """One encoder with a head for each of several tasks, trained together.

    Rows, kind and metric are those of [tasks.NAME]; how the model is trained is said here.
    """

    weights: dict[str, PositiveFloat] = Field(
        min_length=2
    )  # of each task's loss, by task; the first is the main one
    weighting: Literal["fixed", "uncertainty", "dwa", "famo"] = (
        "fixed"  # how the weights change from the ones above
    )
    steps: Literal["joint", "alternate"] = (
        "joint"  # a batch of every task in each step, or of one task drawn by `sampling`
    )
    sampling: Literal["proportional", "temperature", "uniform"] = (
        "proportional"  # how often a task is drawn: by its number of rows, its root, alike
    )
    temperature: PositiveFloat = 2.0  # of sampling by temperature: rows ** (1 / temperature)

    @model_validator(mode="after")
    def famo_sees_every_task(self) -> Self:
        if self.weighting == "famo" and self.steps != "joint":
            raise ValueError(
                'weighting = "famo" needs the losses of every task in each step: '
                'set steps = "joint"'
            )
        return self
