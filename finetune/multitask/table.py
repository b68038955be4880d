"""The recipe table of a multi-task model. Imports no torch."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from finetune.task import Training
from runtime.config import Positive, PositiveFloat

TAKEN = re.compile(r"seed-\d+|tokenizer")  # folders beside those of the tasks


class MultiTask(Training):
    """One encoder with a head for each of several tasks, trained together.

    Rows, kind and metric are those of [tasks.NAME]; how the model is trained is said here. The loss
    of a step is the sum over tasks of weight x mean loss a target, where each loss is divided by
    what a model that knows nothing would have (cross-entropy: ln of the number of labels).
    """

    weights: dict[str, PositiveFloat] = Field(
        min_length=2
    )  # of each task's loss, by task; the first is the main one
    weighting: Literal["fixed", "uncertainty", "dwa", "famo"] = (
        "fixed"  # how the weights change from the ones above: not; trained (Kendall et al. 2018);
        # by the speed of learning (Liu et al. 2019); so that all improve alike (Liu et al. 2023)
    )
    steps: Literal["joint", "alternate"] = (
        "joint"  # each step holds inputs of every task, or a batch of one of them
    )
    sampling: Literal["proportional", "temperature", "uniform"] = (
        "proportional"  # a task's share of the inputs of a step (joint) or of the steps
        # (alternate): by its number of training inputs, by a root of it, or alike
    )
    temperature: PositiveFloat = 2.0  # of sampling by temperature: inputs ** (1 / temperature)
    uncertainty_learning_rate: PositiveFloat = 1e-2  # peak, of the trained log-variances
    dwa_temperature: PositiveFloat = 2.0  # of the softmax over speeds; higher: weights more alike
    dwa_period_steps: Positive | None = (
        None  # steps over which a loss is averaged before two averages are compared; None: an epoch
    )
    famo_learning_rate: PositiveFloat = 0.025  # of Adam on the weights' logits
    famo_decay: Annotated[float, Field(ge=0.0)] = 1e-3  # of the logits: back to `weights`
    famo_memory: Annotated[float, Field(ge=0.0, lt=1.0)] = (
        0.9  # share of earlier steps in the running mean of each loss; 0: one step's losses alone
    )

    controls: bool = (
        True  # also train each task by itself with the same settings (unless the recipe's own run
        # of it is the same) and report what training together brought or cost it
    )

    @model_validator(mode="after")
    def tasks_have_folders_of_their_own(self) -> Self:
        taken = [name for name in self.weights if TAKEN.fullmatch(name)]
        if taken:
            raise ValueError(
                f"weights names {', '.join(taken)}, which is a folder of every multi-task model: "
                "give the task another name"
            )
        return self

    @model_validator(mode="after")
    def famo_sees_every_task(self) -> Self:
        if self.weighting == "famo" and self.steps != "joint":
            raise ValueError(
                'weighting = "famo" needs the losses of every task in each step: '
                'set steps = "joint"'
            )
        return self

    @model_validator(mode="after")
    def a_step_holds_every_task(self) -> Self:
        if self.steps == "joint" and self.batch_size < len(self.weights):
            raise ValueError(
                f"batch_size ({self.batch_size}) cannot hold an input of each of "
                f'{len(self.weights)} tasks: raise it or set steps = "alternate"'
            )
        return self
