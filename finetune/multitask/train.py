"""Train several tasks on one encoder."""

from dataclasses import dataclass

from finetune.config import Recipe
from finetune.multitask.table import MultiTask
from finetune.prepare import Prepared
from runtime.errors import RecipeError
from runtime.stages import Plan


@dataclass(frozen=True)
class Together:
    """A multi-task model ready to be trained."""

    name: str
    table: MultiTask
    tasks: list[Prepared]


def prepare(recipe: Recipe, name: str) -> Together:
    """Read and encode the rows of all tasks of a multi-task model."""
    raise RecipeError("STUB")


def run(recipe: Recipe, together: Together, plan: Plan, accepts_drift: bool) -> None:
    """Train, score, export and report a multi-task model. All ranks call it."""
    raise RecipeError("STUB")
