"""Several tasks made ready to be trained on one encoder: rows read, checked and encoded.

Rows, kind and metric of a task are those of [tasks.NAME]; how it is trained is said by the table of
the multi-task model, so each task here has that table's settings. Trained alone with them, it is
the control of the model (finetune/multitask/controls.py). Writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune import encoder
from finetune import prepare as preparing
from finetune.config import Recipe
from finetune.encoder import Encoder
from finetune.multitask import norms
from finetune.multitask.table import MultiTask
from finetune.plan import encoder_name
from finetune.prepare import Prepared
from finetune.task import Training
from runtime.errors import RecipeError


@dataclass(frozen=True)
class Several:
    """The tasks of a multi-task model; the first is the main one."""

    name: str
    table: MultiTask
    encoder: Encoder
    tasks: list[Prepared]

    @property
    def main(self) -> Prepared:
        return self.tasks[0]

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.tasks]

    @property
    def norms(self) -> list[float]:
        """What each task's loss is divided by."""
        return [
            norms.of(task.loss, len(task.labels), task.encoded["train"].windows)
            for task in self.tasks
        ]

    @property
    def factors(self) -> list[float]:
        """Of each task's loss beside a trained log-variance: its weight; of squared errors half of
        it, as the likelihood of a normal distribution has them."""
        return [
            weight * (0.5 if task.loss.kind == "squared" else 1.0)
            for task, weight in zip(self.tasks, self.table.weights.values(), strict=True)
        ]


def prepare(recipe: Recipe, name: str) -> Several:
    """Read and encode the rows of all tasks of a multi-task model. Raises DataError before anything
    is written."""
    table = recipe.multitask[name]
    start = encoder.load(encoder_name(recipe, table))
    if table.max_length is not None and table.max_length > start.longest:
        raise RecipeError(
            f"multitask.{name}.max_length ({table.max_length}) exceeds the encoder's "
            f"{start.longest} positions; set at most {start.longest}"
        )
    alike = with_settings(recipe, table)
    tasks = [preparing.prepare(alike, task, start) for task in table.weights]
    return Several(name, table, start, tasks)


def with_settings(recipe: Recipe, table: MultiTask) -> Recipe:
    """The recipe with the tasks of a multi-task model trained as its table says."""
    settings = {field: getattr(table, field) for field in Training.model_fields}
    tasks = {
        name: task.model_copy(update=settings if name in table.weights else {})
        for name, task in recipe.tasks.items()
    }
    return recipe.model_copy(update={"tasks": tasks})


def sizes(tasks: Sequence[Prepared]) -> tuple[int, ...]:
    """Training inputs of each task."""
    return tuple(len(task.encoded["train"].windows) for task in tasks)
