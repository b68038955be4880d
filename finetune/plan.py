"""What fine-tuning would do with a recipe, and which tasks are done. Imports no torch."""

import json
from pathlib import Path

import pretrain.plan
from finetune.config import Recipe
from finetune.task import Task
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
    parts = tuple(plan_task(recipe, name, task) for name, task in recipe.tasks.items())
    pending = next((part.pending for part in parts if part.pending), None)
    inputs = provenance.fingerprint([part.inputs for part in parts])
    return Plan(STAGE, folder, inputs, pending=pending, parts=parts)


def plan_task(recipe: Recipe, name: str, task: Task) -> Plan:
    """Plan one task; pending while its encoder or a file is not there."""
    stage = f"{STAGE}.{name}"
    folder = stages.folder(recipe.output, STAGE) / name
    start = encoder_name(recipe, task)
    if task.encoder is None:
        if recipe.model is None and not Path(start).is_dir():
            raise RecipeError(
                f"tasks.{name} has no encoder: set tasks.{name}.encoder to a folder or hub id, or "
                "add [model] to pretrain one"
            )
        if recipe.model is not None and not pretrain.plan.plan(recipe).is_done:
            return Plan(stage, folder, "", pending="waits for pretrain")
    files = [path for path in (task.train, task.valid, task.test) if path is not None]
    absent = [str(path) for path in files if not path.is_file()]
    if absent:
        return Plan(stage, folder, "", pending=f"waits for {', '.join(absent)}, which is missing")
    inputs = {
        "task": json.loads(task.model_dump_json()),
        "files": [provenance.file_fingerprint(path) for path in files],
        "encoder": encoder_fingerprint(start),
        "precision": recipe.engine.precision,
        "optimizer": recipe.optimizer.model_dump(exclude={"learning_rate", "weight_decay"}),
        "seed": recipe.seed if task.seed is None else task.seed,
        "export": recipe.export.model_dump(),
    }
    lines = [
        f"encoder {start}",
        *(f"{path.stat().st_size:>12,} bytes  {path}" for path in files),
        f"{task.epochs} epochs in batches of {task.batch_size}, best by {task.metric}",
    ]
    return Plan(stage, folder, provenance.fingerprint(inputs), lines)


def encoder_name(recipe: Recipe, task: Task) -> str:
    """The folder or hub id of the encoder that a task starts from."""
    return task.encoder or str(stages.folder(recipe.output, "pretrain") / EXPORT)


def encoder_fingerprint(name: str) -> str:
    """Fingerprint of an encoder folder; of its name if it is a hub id."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    wanted = [*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]
    return provenance.files_fingerprint(path for path in wanted if path.is_file())
