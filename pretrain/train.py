"""The training loop, of pretraining and of fine-tuning: what happens when, top to bottom.

The loop knows steps, ranks and files, not what is trained: batches, evaluation and learning rate
are handed to it. Every decision is taken by all ranks alike. A run continues exactly where its
newest good checkpoint stands, whoever stopped it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pretrain.batches import Batches
from pretrain.evaluate import Evaluation
from runtime import checkpoint, config, processes, signals
from runtime.checkpoint import Position
from runtime.engine import Engine
from runtime.errors import NumericError, StopRequested
from runtime.throughput import Throughput
from runtime.tracking import Tracker


@dataclass(frozen=True)
class Settings:
    """When the loop evaluates, logs, saves and gives up."""

    evaluate_every_steps: int
    checkpoint: config.Checkpoint
    track: config.Track
    patience: int | None = None  # evaluations without a better score before stopping; None: never
    description: str = ""  # Markdown shown beside the curves: the resolved recipe


def train(
    engine: Engine,
    batches: Batches,
    evaluate: Callable[[], Evaluation],
    learning_rate: Callable[[int], float],
    settings: Settings,
    folder: Path,
    identity: Mapping[str, str],
) -> Position:
    """Train from the newest checkpoint in `folder` to the last step; all ranks call it.

    `learning_rate(step)` gives the rate of the step-th update, counted from 1. `identity` says what
    a checkpoint must have been made with. Raises StopRequested after saving when a stop signal
    came, NumericError before an update with a loss that is not finite.
    """
    checkpoints = folder / "checkpoints"
    position = checkpoint.load_newest(engine, checkpoints, identity)
    is_writer = processes.rank() == 0
    if position.step == 0:
        checkpoint.check_disk(checkpoints, engine.num_parameters(), settings.checkpoint)
    with Tracker(folder, position.step, batches.total_steps, is_writer) as tracker:
        tracker.text("recipe", settings.description, position.step)
        throughput = Throughput()
        if position.step == 0:
            tracker.log(0, evaluate().metrics)
            throughput.restart()
        while position.step < batches.total_steps and not is_exhausted(position, settings):
            with throughput.waiting():
                micro_batches = batches.micro_batches(position.step)
            num_targets, num_tokens = processes.sum_over_ranks(
                [
                    sum(micro_batch.num_targets for micro_batch in micro_batches),
                    sum(micro_batch.num_tokens for micro_batch in micro_batches),
                ]
            )
            losses = [engine.accumulate(m.inputs, num_targets) for m in micro_batches]
            loss_sum, stops = processes.sum_over_ranks(
                [
                    sum(loss.item() for loss in losses),
                    signals.stop_requested(),
                ]
            )
            if not math.isfinite(loss_sum):
                raise NumericError(loss_not_finite(position.step + 1, loss_sum, checkpoints))
            rate = learning_rate(position.step + 1)
            gradient_norm = engine.step(rate)
            throughput.count(int(num_tokens))
            position = replace(
                position,
                step=position.step + 1,
                tokens=position.tokens + int(num_tokens),
                targets=position.targets + int(num_targets),
            )
            is_last = position.step == batches.total_steps

            metrics = {}
            if is_last or every(settings.track.interval_steps, position.step):
                metrics = {
                    "loss/train": loss_sum / num_targets,
                    "optim/learning_rate": rate,
                    "optim/gradient_norm": gradient_norm,
                    "data/tokens": float(position.tokens),
                    **throughput.read(),
                }
            with throughput.excluded():
                if is_last or every(settings.evaluate_every_steps, position.step):
                    evaluation = evaluate()
                    metrics |= evaluation.metrics
                    position = judged(position, evaluation)
                if metrics:
                    tracker.log(position.step, metrics)
                stopped = is_last or is_exhausted(position, settings) or stops > 0
                if stopped or every(settings.checkpoint.interval_steps, position.step):
                    tracker.flush()
                    checkpoint.save(engine, checkpoints, position, identity, settings.checkpoint)
            if stops and not is_last and not is_exhausted(position, settings):
                raise StopRequested(
                    f"stopped at step {position.step}/{batches.total_steps}, checkpoint saved; "
                    "run the same command again to continue"
                )
    return position


def every(interval: int, step: int) -> bool:
    return step % interval == 0


def is_exhausted(position: Position, settings: Settings) -> bool:
    """True when the last evaluations brought nothing better."""
    patience = settings.patience
    return patience is not None and position.evaluations_since_best >= patience


def judged(position: Position, evaluation: Evaluation) -> Position:
    """The position after an evaluation: the best step so far and how long ago it was."""
    if position.best_score is None or evaluation.score > position.best_score:
        return replace(
            position,
            best_score=evaluation.score,
            best_step=position.step,
            evaluations_since_best=0,
        )
    return replace(position, evaluations_since_best=position.evaluations_since_best + 1)


def loss_not_finite(step: int, loss_sum: float, checkpoints: Path) -> str:
    saved = checkpoint.steps(checkpoints)
    start = f"the checkpoint of step {saved[-1]}" if saved else "step 0 (no checkpoint yet)"
    return (
        f"the loss of step {step} is {loss_sum}; nothing was updated. Lower "
        f"optimizer.learning_rate or raise schedule.warmup_share and run again: it continues from "
        f"{start}"
    )
