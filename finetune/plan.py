"""What fine-tuning would do with a recipe, and which tasks are done. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import pretrain.plan
from finetune import sources
from finetune.augmentation import augmenting
from finetune.config import Recipe
from finetune.task import Source, Task, Training
from runtime import provenance, stages
from runtime.errors import RecipeError
from runtime.stages import Plan

STAGE = "finetune"
EXPORT = "export"  # folder of the model in a stage's folder


def plan(recipe: Recipe) -> Plan:
    """One part a task. Raises RecipeError for a task that has no encoder to start from."""
    folder = stages.folder(recipe.output, STAGE)
    if not recipe.tasks:
        return Plan(STAGE, folder, "", pending="the recipe has no [tasks]")
    parts = (
        *(plan_task(recipe, name, task) for name, task in recipe.tasks.items() if task.alone),
        *(plan_together(recipe, name) for name in recipe.multitask),
    )
    pending = next((part.pending for part in parts if part.pending), None)
    inputs = provenance.fingerprint([part.inputs for part in parts])
    return Plan(STAGE, folder, inputs, pending=pending, parts=parts)


def plan_of(recipe: Recipe, name: str) -> Plan:
    """The plan of one part. Raises RecipeError if there is none of that name."""
    found = plan(recipe)
    parts = tuple(part for part in found.parts if part.folder.name == name)
    if not parts:
        known = ", ".join(part.folder.name for part in found.parts) or "none"
        raise RecipeError(f"--only {name}: the recipe fine-tunes no {name}, but {known}")
    (part,) = parts
    return Plan(STAGE, found.folder, part.inputs, pending=part.pending, parts=parts)


def lock_of(name: str) -> str:
    """What a part is locked and logged as: parts may be trained at once by several runs."""
    return f"{STAGE}-{name}"


def plan_task(recipe: Recipe, name: str, task: Task) -> Plan:
    """Plan one task; pending while its encoder or a file is not there."""
    key = f"tasks.{name}"
    stage = f"{STAGE}.{name}"
    folder = stages.folder(recipe.output, STAGE) / name
    if waiting := awaited(recipe, task, key) or missing_file(task):
        return Plan(stage, folder, "", pending=waiting)
    augmenting.check(name, task)
    inputs = {**inputs_of(recipe, task), "task": rows_of(task)}
    lines = [
        f"encoder {encoder_name(recipe, task)}",
        *(describe(source) for source in rows(task)),
        f"{task.epochs} epochs in batches of {task.batch_size}, best by {task.metric}",
    ]
    return Plan(stage, folder, provenance.fingerprint(inputs), lines)


def plan_together(recipe: Recipe, name: str) -> Plan:
    """Plan one multi-task model; pending while its encoder or a file is not there."""
    table = recipe.multitask[name]
    stage = f"{STAGE}.{name}"
    folder = stages.folder(recipe.output, STAGE) / name
    tasks = {task: recipe.tasks[task] for task in table.weights}
    waiting = awaited(recipe, table, f"multitask.{name}")
    waiting = waiting or next(filter(None, map(missing_file, tasks.values())), None)
    if waiting:
        return Plan(stage, folder, "", pending=waiting)
    inputs = {
        **inputs_of(recipe, table),
        "table": json.loads(table.model_dump_json()),
        "tasks": {task: rows_of(found) for task, found in tasks.items()},
    }
    shares = ", ".join(f"{task} x {weight:g}" for task, weight in table.weights.items())
    lines = [
        f"encoder {encoder_name(recipe, table)}",
        f"{table.epochs} epochs of {shares}, weights {table.weighting}",
    ]
    return Plan(stage, folder, provenance.fingerprint(inputs), lines)


def awaited(recipe: Recipe, table: Training, key: str) -> str | None:
    """What of the encoder is not there yet. Raises RecipeError if none can come."""
    if table.encoder is None:
        if recipe.model is None and not Path(encoder_name(recipe, table)).is_dir():
            raise RecipeError(
                f"{key} has no encoder: set {key}.encoder to a folder or hub id, or "
                "add [model] to pretrain one"
            )
        if recipe.model is not None and not pretrain.plan.plan(recipe).is_done:
            return "waits for pretrain"
    return None


def rows(task: Task) -> list[Source]:
    """Where the rows of its splits come from."""
    return [source for source in (task.train, task.valid, task.test) if source is not None]


def missing_file(task: Task) -> str | None:
    absent = [str(source) for source in rows(task) if sources.missing(source)]
    return f"waits for {', '.join(absent)}, which is missing" if absent else None


def rows_of(task: Task) -> dict[str, Any]:
    """A task's table, what its rows are and what its augmentations read.

    Raises DataError if a file of an augmentation is missing.
    """
    table = json.loads(task.model_dump_json(exclude={"alone"}))
    return {
        "table": table,
        "rows": [sources.fingerprint(source) for source in rows(task)],
        "augment": provenance.files_fingerprint(augmenting.inputs(task.augment)),
    }


def inputs_of(recipe: Recipe, table: Training) -> dict[str, Any]:
    """What a model depends on beside its tasks."""
    return {
        "encoder": encoder_fingerprint(encoder_name(recipe, table)),
        "precision": recipe.engine.precision,
        "optimizer": recipe.optimizer.model_dump(exclude={"learning_rate", "weight_decay"}),
        "seeds": seeds_of(recipe, table),
        "augment": recipe.augment.model_dump(include={"auto", "folds", "max_p"}),
        "export": recipe.export.model_dump(),
    }


def seeds_of(recipe: Recipe, table: Training) -> tuple[int, ...]:
    """The seeds of a model's training runs."""
    return table.seeds or (recipe.seed,)


def describe(source: Source) -> str:
    if isinstance(source, Path):
        return f"{source.stat().st_size:>12,} bytes  {source}"
    return f"{source.split} of the data set {source.dataset}"


def encoder_name(recipe: Recipe, task: Training) -> str:
    """The folder or hub id of the encoder that a task starts from."""
    return task.encoder or str(stages.folder(recipe.output, "pretrain") / EXPORT)


def encoder_fingerprint(name: str) -> str:
    """Fingerprint of an encoder folder; of its name if it is a hub id."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    wanted = [*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]
    return provenance.files_fingerprint(path for path in wanted if path.is_file())
