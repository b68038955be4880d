"""Train one model: the part that a task alone, several tasks at once, folds and trials share.

The loop, engine, checkpoints and tracking are pretraining's; this file says what they are given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from finetune.config import Recipe
from finetune.heads import num_left_out
from finetune.task import Training
from pretrain.batches import Batches
from pretrain.evaluate import Evaluation
from pretrain.hooks import Hook
from pretrain.train import Job, Settings, train
from runtime import checkpoint, config, processes, schedule
from runtime.engine import Batch, Engine
from runtime.errors import DataError
from runtime.recipe import to_toml
from runtime.tracking import Tracker


@dataclass(frozen=True)
class Trainable:
    """A model to be fine-tuned and how it is judged."""

    name: str
    table: Training
    build: Callable[[], nn.Module]  # the objective; its forward returns the summed loss first
    rate_of: Callable[[str], float]  # learning rate of a parameter, relative to the table's
    # Of an engine and a seed. All ranks call it, once for an engine, before it trains: whether
    # packing is exact is found here.
    batches: Callable[[Engine, int], Batches]
    judge: Callable[[Engine], Evaluation]  # on the valid rows
    identity: Mapping[str, Any]  # JSON: what a checkpoint must have been made with
    hooks: Sequence[Hook] = ()
    # Pictures for TensorBoard at each evaluation, of what `judge` found last.
    show: Callable[[Tracker, int], None] | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A trained model, at its best checkpoint."""

    engine: Engine
    position: checkpoint.Position
    training: dict[str, Any]  # facts for the report


def fit(
    trainable: Trainable, recipe: Recipe, folder: Path, seed: int, accepts_drift: bool = False
) -> Fitted:
    """Train, then restore the best checkpoint. All ranks call it."""
    started = time.time()
    table = trainable.table
    engine = make_engine(trainable, recipe, seed)
    batches = trainable.batches(engine, seed)
    steps_per_epoch = max(1, batches.total_steps // table.epochs)
    every = max(1, steps_per_epoch // table.evaluations_per_epoch)
    identity = {
        **trainable.identity,
        "num_parameters": engine.num_parameters(),
        "engine": {"precision": recipe.engine.precision},
        "optimizer": recipe.optimizer.model_dump(mode="json"),
        "guard": recipe.guard.model_dump(mode="json"),
        "seed": seed,
    }
    position = train(
        Job(
            engine,
            batches,
            lambda: trainable.judge(engine),
            lambda position, _: rate(table, position.step + 1, batches.total_steps),
            folder,
            identity,
            hooks=trainable.hooks,
            show=trainable.show,
        ),
        Settings(
            every,
            saving(recipe.checkpoint, every),
            recipe.track,
            recipe.guard,
            patience=table.patience,
            accepts_drift=accepts_drift,
            description=f"```toml\n{to_toml(recipe)}```",
            hyperparameters={**trainable.hyperparameters, "seed": seed},
        ),
    )
    restore_best(engine, folder, position, identity)
    training = {
        "seed": seed,
        "steps": position.step,
        "steps_planned": batches.total_steps,
        "best_step": position.best_step,
        "steps_per_epoch": steps_per_epoch,
        "tokens": position.tokens,
        "num_parameters": engine.num_parameters() + num_left_out(engine.module),
        "seconds": round(time.time() - started, 1),  # of the start that finished the run
    }
    return Fitted(engine, position, training)


def make_engine(trainable: Trainable, recipe: Recipe, seed: int) -> Engine:
    """The model under DeepSpeed. All ranks call it."""
    table = trainable.table
    return Engine(
        trainable.build,
        recipe.engine,
        recipe.optimizer.model_copy(
            update={"learning_rate": table.learning_rate, "weight_decay": table.weight_decay}
        ),
        batch_shape(table),
        seed,
        trainable.rate_of,
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


def batch_shape(table: Training) -> Batch:
    """The largest micro batch that divides the batch over the ranks; Batch refuses what is left."""
    world = processes.world_size()
    sizes = range(min(table.micro_batch_size, max(table.batch_size // world, 1)), 0, -1)
    fitting = (size for size in sizes if table.batch_size % (size * world) == 0)
    return Batch(table.batch_size, next(fitting, 1))


def saving(table: config.Checkpoint, every: int) -> config.Checkpoint:
    """Checkpoints at every evaluation, so that the best model is among them."""
    return table.model_copy(update={"interval_steps": every, "keep_best": True})


def rate(table: Training, step: int, total: int) -> float:
    """Learning rate of the step-th update (from 1): never 0, neither at the first nor the last."""
    shape = config.Schedule(shape=table.decay, warmup_share=table.warmup_share)
    return schedule.learning_rate(shape, table.learning_rate, step, total + 1)
