"""Train the tasks of a recipe one after another: read, train, restore the best, test, export.

The loop, engine, checkpoints and tracking are pretraining's; this file says what is trained and
what is done before and after. A task's folder holds `export/` (an ordinary save_pretrained folder),
`report.json`, `checkpoints/`, `control/` and, written last, `manifest.json`.
"""

import gc
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune import encoder, export, heads, report
from finetune.batches import LabelledBatches
from finetune.config import Recipe
from finetune.plan import encoder_name
from finetune.report import Prepared, Trained
from finetune.task import Task
from pretrain.evaluate import Evaluation
from pretrain.export import Exporter
from pretrain.train import Job, Settings, train
from runtime import checkpoint, config, plugins, processes, provenance, schedule, stages
from runtime.engine import Batch, Engine
from runtime.errors import DataError
from runtime.recipe import to_toml
from runtime.stages import Plan

log = logging.getLogger("textmill")


def run(recipe: Recipe, plan: Plan, accepts_drift: bool = False) -> None:
    """Fine-tune every task that is not done. All ranks call it.

    The data of all of them is read and checked before the first one is trained.
    """
    waiting = [part for part in plan.parts if not part.is_done]
    prepared = [prepare(recipe, part.folder.name) for part in waiting]
    for part, task in zip(waiting, prepared, strict=True):
        run_task(recipe, task, part, accepts_drift)


def run_task(recipe: Recipe, prepared: Prepared, plan: Plan, accepts_drift: bool) -> None:
    """Train, test, export and report one task. All ranks call it."""
    if processes.rank() == 0:
        provenance.record_start(plan.folder, to_toml(recipe))
        encoder.copy_tokenizer(prepared.encoder.folder, plan.folder / "tokenizer")
    processes.barrier()
    trained = train_model(recipe, prepared, plan.folder, False, accepts_drift)
    gc.collect()  # the engine's sharded parameters, before a model is loaded whole
    onnx = export.onnx_on_rank_0(plan.folder / "export", recipe.export, prepared.task.valid)
    control = None
    if prepared.task.control_random_init:
        control = train_model(recipe, prepared, plan.folder / "control", True, accepts_drift)
        gc.collect()
    found = report.of(prepared, trained, control, onnx)
    if processes.rank() == 0:
        provenance.write_json(plan.folder / "report.json", found)
        for line in report.summary(prepared, found):
            log.info(line)
        shutil.rmtree(plan.folder / "tokenizer")
        manifest = {
            "format": "textmill-finetune",
            "version": 1,
            "inputs": plan.inputs,
            "encoder": prepared.encoder.fingerprint,
            "tokenizer": prepared.encoder.tokenizer_fingerprint,
            "contamination": found["contamination"],
            "world_size": processes.world_size(),
            "versions": provenance.versions(),
        }
        provenance.write_json(plan.folder / stages.MANIFEST, manifest)
    processes.barrier()


def prepare(recipe: Recipe, name: str) -> Prepared:
    """Read and encode a task's files. Raises DataError before anything is written."""
    task = recipe.tasks[name]
    batch_shape(task).accumulation(processes.world_size())
    plugin = plugins.find("finetune.tasks", task.kind)
    start = encoder.load(encoder_name(recipe, task))
    max_length = encoder.input_length(task.max_length, start.longest, name)
    files = {"train": task.train, "valid": task.valid, "test": task.test}
    data = {split: plugin.read(path, task) for split, path in files.items() if path is not None}
    labels = plugin.label_set(data["train"], task)
    for dataset in data.values():
        plugin.check_labels(dataset, labels)
    encoded = {
        split: plugin.encode(dataset, start.tokenizer, labels, task, max_length)
        for split, dataset in data.items()
    }
    for split, found in encoded.items():
        if not found.windows:
            raise DataError(f"no text of {data[split].path} gives any token with this tokenizer")
    return Prepared(name, task, plugin, start, labels, max_length, data, encoded)


def train_model(
    recipe: Recipe, prepared: Prepared, folder: Path, is_control: bool, accepts_drift: bool
) -> Trained:
    """Train from the encoder (or from random weights), restore the best checkpoint and score it.

    Exports the model unless it is the control. All ranks call it.
    """
    task = prepared.task
    seed = recipe.seed if task.seed is None else task.seed
    started = time.time()
    engine = make_engine(recipe, prepared, is_control, seed)
    batches = LabelledBatches(
        prepared.encoded["train"].windows,
        prepared.plugin.HEAD,
        prepared.encoder.tokenizer.pad_id,
        task.batch_size,
        engine.accumulation,
        task.epochs,
        seed,
    )
    every = max(1, batches.steps_per_epoch // task.evaluations_per_epoch)
    identity = identity_of(recipe, prepared, is_control, seed)
    say_what_starts(prepared, engine, batches, is_control)
    position = train(
        Job(
            engine,
            batches,
            lambda: judge(prepared, engine),
            lambda position, _: rate(task, position.step + 1, batches.total_steps),
            folder,
            identity,
        ),
        loop_settings(recipe, task, every, accepts_drift),
    )
    restore_best(engine, folder, position, identity)
    results = {
        split: prepared.evaluate(engine, split) for split in prepared.encoded if split != "train"
    }
    objective = engine.module
    assert isinstance(objective, heads.Objective)
    if not is_control:
        facts = model_facts(prepared)
        exporter = Exporter(engine, objective.model, "model.", folder / "tokenizer")
        exporter.write(folder / "export", facts)
    training = {
        "steps": position.step,
        "steps_planned": batches.total_steps,
        "best_step": position.best_step,
        "steps_per_epoch": batches.steps_per_epoch,
        "tokens": position.tokens,
        "num_parameters": engine.num_parameters(),
        "seconds": round(time.time() - started, 1),  # of the start that finished the run
    }
    return Trained(training, results)


def loop_settings(recipe: Recipe, task: Task, every: int, accepts_drift: bool) -> Settings:
    """What the recipe says about the loop of a task that is evaluated `every` steps."""
    return Settings(
        every,
        saving(recipe.checkpoint, every),
        recipe.track,
        recipe.guard,
        patience=task.patience,
        accepts_drift=accepts_drift,
        description=f"```toml\n{to_toml(recipe)}```",
    )


def make_engine(recipe: Recipe, prepared: Prepared, is_control: bool, seed: int) -> Engine:
    """The task's model under DeepSpeed. All ranks call it."""
    task = prepared.task
    return Engine(
        lambda: heads.Objective(
            heads.build(prepared.encoder.folder, prepared.plugin.HEAD, prepared.labels, is_control)
        ),
        recipe.engine,
        recipe.optimizer.model_copy(
            update={"learning_rate": task.learning_rate, "weight_decay": task.weight_decay}
        ),
        batch_shape(task),
        seed,
    )


def restore_best(
    engine: Engine, folder: Path, position: checkpoint.Position, identity: Mapping[str, Any]
) -> None:
    """Go back to the checkpoint with the best score. Raises DataError if it is damaged."""
    if position.best_step is None or position.best_step == position.step:
        return
    saved = folder / "checkpoints" / f"step-{position.best_step:08d}"
    fault = checkpoint.first_fault(saved)
    if fault is not None:
        raise DataError(
            f"the best checkpoint {saved} is damaged ({fault}); delete {folder} and run again"
        )
    checkpoint.load(engine, saved, identity, accepts_drift=bool(position.drift))


def batch_shape(task: Task) -> Batch:
    """The largest micro batch that divides the batch over the ranks; Batch refuses what is left."""
    world = processes.world_size()
    sizes = range(min(task.micro_batch_size, max(task.batch_size // world, 1)), 0, -1)
    fitting = (size for size in sizes if task.batch_size % (size * world) == 0)
    return Batch(task.batch_size, next(fitting, 1))


def saving(table: config.Checkpoint, every: int) -> config.Checkpoint:
    """Checkpoints at every evaluation, so that the best model is among them."""
    return table.model_copy(update={"interval_steps": every, "keep_best": True})


def rate(task: Task, step: int, total: int) -> float:
    """Learning rate of the step-th update (from 1): never 0, neither at the first nor the last."""
    table = config.Schedule(shape=task.decay, warmup_share=task.warmup_share)
    return schedule.learning_rate(table, task.learning_rate, step, total + 1)


def judge(prepared: Prepared, engine: Engine) -> Evaluation:
    """Evaluate on the valid file, for the loop. All ranks call it."""
    scored = prepared.evaluate(engine, "valid")
    metrics = {"loss/valid": scored.loss}
    metrics |= {f"eval/{name}": value for name, value in scored.scores.metrics.items()}
    return Evaluation(metrics, scored.scores.metrics[prepared.task.metric])


def identity_of(recipe: Recipe, prepared: Prepared, is_control: bool, seed: int) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    paths = {split: provenance.file_fingerprint(d.path) for split, d in prepared.data.items()}
    task = prepared.task.model_dump(mode="json", exclude={"patience", "control_random_init"})
    return {
        "task": task,
        "engine": {"precision": recipe.engine.precision},
        "optimizer": recipe.optimizer.model_dump(mode="json"),
        "guard": recipe.guard.model_dump(mode="json"),
        "labels": prepared.labels,
        "is_control": is_control,
        "seed": seed,
        "encoder": prepared.encoder.fingerprint,
        "tokenizer": prepared.encoder.tokenizer_fingerprint,
        "data": paths,
    }


def model_facts(prepared: Prepared) -> dict[str, Any]:
    """What `predict` needs besides the model: stored in textmill.json."""
    return {
        "task": json_of(prepared.task),
        "labels": prepared.labels,
        "max_length": prepared.max_length,
        "encoder": prepared.encoder.fingerprint,
        "contamination": {  # by fingerprint of the file that is scored
            provenance.file_fingerprint(prepared.data[split].path): found["words"]
            for split, found in prepared.contamination().items()
        },
    }


def json_of(task: Task) -> dict[str, Any]:
    return task.model_dump(mode="json", exclude_none=True)


def say_what_starts(
    prepared: Prepared, engine: Engine, batches: LabelledBatches, is_control: bool
) -> None:
    if processes.rank() != 0:
        return
    log.info(
        "%s%s: %s parameters, %d labels, %d training inputs of at most %d tokens, %d steps",
        prepared.name, " (control without pretraining)" if is_control else "",
        f"{engine.num_parameters():,}", len(prepared.labels), len(batches.windows),
        prepared.max_length, batches.total_steps,
    )  # fmt: skip
    for split, found in prepared.encoded.items():
        counts = {**prepared.data[split].counts, **found.counts}
        shown = ", ".join(f"{key} {value}" for key, value in counts.items() if value)
        log.info("  %-5s %s", split, shown)
