"""The recipe of one trial: the target alone, at one setting, in a folder of its own.

A trial never sees the test rows: what is chosen by looking at them can no longer be judged by them.
It writes no other exports, keeps few checkpoints, and reads nothing that could change under way:
the recipe it runs is a file of its own, resolved. Imports neither torch nor optuna.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune import plan, sources
from finetune.augmentation.augmenting import Labelled
from finetune.config import Recipe
from finetune.search import space
from finetune.search.table import Search, Value
from finetune.task import Source, Task, Training
from runtime import stages
from runtime.recipe import RecipeTable

# What fine-tuning reads beside the target's own tables.
KEPT = ("engine", "optimizer", "guard", "track")
NOT_IN_A_TRIAL = {"test", "control_random_init"}


def seed_of(recipe: Recipe, target: str) -> int:
    """The seed of every trial."""
    return plan.seeds_of(recipe, space.table_of(recipe, target))[0]


def of(
    recipe: Recipe,
    target: str,
    values: Mapping[str, Value],
    folder: Path,
    seed: int,
    threads: int | None,
) -> Recipe:
    """The recipe of a trial in `folder`; `threads` are the CPU threads of a rank unless the recipe
    says. Raises RecipeError if the values do not fit."""
    chosen = space.with_values(recipe, values)
    data: dict[str, Any] = {name: as_data(getattr(chosen, name)) for name in KEPT}
    data |= {"name": chosen.name, "seed": chosen.seed, "output": str(folder)}
    data["augment"] = as_data(Labelled(**{key: getattr(chosen.augment, key) for key in LABELLED}))
    data["checkpoint"] = {"keep_last": 1, "keep_best": True}
    if threads is not None:
        data["engine"].setdefault("threads_per_rank", threads)
    training = {"encoder": encoder_of(chosen, target), "seeds": [seed]}
    data["tasks"] = {name: task_table(chosen, name) for name in space.tasks_of(chosen, target)}
    if target in chosen.multitask:
        table = as_data(chosen.multitask[target]) | training | {"controls": False}
        data["multitask"] = {target: table}
        data["tasks"] = {name: table | {"alone": False} for name, table in data["tasks"].items()}
    else:
        data["tasks"][target] |= {**training, "alone": True}
    return Recipe.model_validate_json(json.dumps(data))


LABELLED = tuple(Labelled.model_fields)


def as_data(table: RecipeTable) -> dict[str, Any]:
    """A table as a recipe file holds it."""
    return table.model_dump(mode="json", exclude_none=True)


def task_table(recipe: Recipe, name: str) -> dict[str, Any]:
    """A task without what trials leave out, its rows in files."""
    task: Task = recipe.tasks[name]
    table = as_data(task)
    rows = {split: getattr(task, split) for split in ("train", "valid")}
    table |= {
        split: str(as_file(recipe, source, f"{name}-{split}"))
        for split, source in rows.items()
        if source is not None
    }
    return {key: value for key, value in table.items() if key not in NOT_IN_A_TRIAL}


def as_file(recipe: Recipe, source: Source, name: str) -> Path:
    """The file of these rows: data sets are written once, where fine-tuning itself keeps them."""
    return sources.local_file(source, stages.folder(recipe.output, plan.STAGE) / "inputs", name)


def encoder_of(recipe: Recipe, target: str) -> str:
    """What the target starts from, by name: a trial has no [model] and another output."""
    table: Training = space.table_of(recipe, target)
    return plan.encoder_name(recipe, table)


def winner(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """The whole recipe at the values that were found, ready to be run; it searches no more."""
    return space.with_values(recipe, values).model_copy(update={"search": Search()})
