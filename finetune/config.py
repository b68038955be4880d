"""The complete recipe: what fine-tuning adds to the tables of the stages before it.

Torch-free; `runtime.recipe` finds `Recipe` here by name. Task tables live beside their plug-ins.
"""

import re
from typing import Annotated, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

import data_prep.augmenting
import pretrain.config
from finetune.augmentation.augmenting import Labelled
from finetune.multitask.table import MultiTask
from finetune.search.table import Search
from finetune.task import Task
from runtime import plugins
from runtime.config import Positive, PositiveFloat, Share
from runtime.recipe import RecipeTable

TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

AnyTask = Annotated[SerializeAsAny[Task], plugins.table("finetune.tasks", "kind")]


class Export(RecipeTable):
    """Frozen models for serving, written beside each task's export."""

    onnx: bool = False  # model.onnx; needs the extra `onnx`
    onnx_int8: bool = False  # model.int8.onnx: dynamic 8-bit weights; needs the extra `onnx`
    tflite: bool = False  # model.tflite; needs the extra `tflite`
    tflite_int8: bool = False  # model.int8.tflite; needs the extra `tflite`
    tflite_lengths: tuple[Positive, ...] = (32, 64, 128)  # tokens: one signature each
    opset: int = Field(default=20, ge=17, le=23)  # of ONNX
    parity_tolerance: PositiveFloat = 1e-3  # largest allowed difference of a logit to torch
    parity_rows: int = Field(default=64, gt=0)  # rows of the valid file that are compared
    max_score_drop: Share = 0.02  # of the task's metric on valid that 8 bits may cost


class Augment(data_prep.augmenting.Augment, Labelled):
    """What is added to the corpus, and which augmentations of labelled rows are used."""


class Recipe(pretrain.config.Recipe):
    """The recipe as every stage can read it."""

    augment: Augment = Augment()

    tasks: dict[str, AnyTask] = Field(
        default_factory=dict
    )  # by name; the name is the folder below output/finetune/
    multitask: dict[str, MultiTask] = Field(
        default_factory=dict
    )  # by name, like tasks: several of them on one encoder
    export: Export = Export()
    search: Search = Search()

    @field_validator("tasks")
    @classmethod
    def names_are_folders(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        for name in tasks:
            if not TASK_NAME.fullmatch(name):
                raise ValueError(
                    f"task name {name!r} becomes a folder: use letters, digits, '-' and '_'"
                )
        return tasks

    @model_validator(mode="after")
    def parts_are_tasks(self) -> Self:
        for name, table in self.multitask.items():
            if not TASK_NAME.fullmatch(name) or name in self.tasks:
                raise ValueError(
                    f"multitask name {name!r} becomes a folder beside those of the tasks: use "
                    "letters, digits, '-' and '_', and no task's name"
                )
            missing = [task for task in table.weights if task not in self.tasks]
            if missing:
                raise ValueError(
                    f"multitask.{name}.weights names {', '.join(missing)}; the tasks are: "
                    f"{', '.join(self.tasks) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def probed_tasks_exist(self) -> Self:
        probed = [probe.task for probe in self.train.probes] if self.train else []
        missing = [name for name in probed if name not in self.tasks]
        if missing:
            known = ", ".join(self.tasks) or "none"
            raise ValueError(f"train.probes names {', '.join(missing)}; the tasks are: {known}")
        return self
