"""The training loop, of pretraining and of fine-tuning: what happens when, top to bottom.

The loop knows steps, ranks and files, not what is trained: batches, evaluation and learning rate
are handed to it. Every decision is taken by all ranks alike. A run continues exactly where its
newest good checkpoint stands, whoever stopped it.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pretrain import hooks as hooking
from pretrain import logs
from pretrain.batches import Batches
from pretrain.config import Guard as GuardTable
from pretrain.evaluate import Evaluation
from pretrain.flops import Flops, work_of
from pretrain.guard import Guard
from pretrain.hooks import Done, Hook
from runtime import checkpoint, config, processes, signals
from runtime.checkpoint import Position
from runtime.engine import Engine
from runtime.errors import NumericError, StopRequested
from runtime.throughput import Peak, Throughput
from runtime.tracking import Tracker
from runtime.watchdog.activity import END, START, activity

OWED = "owed"  # in a position's state: metrics of its step, which is still to be concluded
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Settings:
    """When the loop evaluates, logs, saves, gives up and goes back."""

    evaluate_every_steps: int
    checkpoint: config.Checkpoint
    track: config.Track
    guard: GuardTable = field(default_factory=GuardTable)
    patience: int | None = None  # evaluations without a better score before stopping; None: never
    budget_seconds: float | None = None  # of wall clock after which the run ends; None: no end
    accepts_drift: bool = False  # continue a checkpoint of another recipe, and record the drift
    num_exports: int = 1  # that will be written, for the forecast of the disk
    description: str = ""  # Markdown shown beside the curves: the resolved recipe
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)  # nested, for TensorBoard


@dataclass(frozen=True)
class Job:
    """What is trained: one value for the loop to pass on."""

    engine: Engine
    batches: Batches
    evaluate: Callable[[], Evaluation]
    # The rate of the next update, from where the run is and the share of it that is done.
    learning_rate: Callable[[Position, float], float]
    folder: Path
    identity: Mapping[str, Any]  # JSON: what a checkpoint must have been made with
    hooks: Sequence[Hook] = ()
    flops: Flops | None = None  # that a micro batch needs; None: MFU is not reported
    peak: Peak | None = None  # of all devices, which MFU is a share of
    predict: Callable[[], str] | None = None  # Markdown: what the model says, at each evaluation
    show: Callable[[Tracker, int], None] | None = None  # pictures of each evaluation


class GoBack(Exception):
    """Too many updates in a row were refused: leave this stretch of data out."""

    def __init__(self, position: Position) -> None:
        super().__init__(position.step)
        self.position = position  # after the last refused step


def train(job: Job, settings: Settings) -> Position:
    """Train from the newest checkpoint in `job.folder` to the end; all ranks call it.

    Raises StopRequested after saving when a stop signal came, NumericError when updates are refused
    again and again although the run went back and passed over their data.
    """
    checkpoints = job.folder / "checkpoints"
    position = checkpoint.load_newest(job.engine, checkpoints, job.identity, settings.accepts_drift)
    if position.step == 0:
        size = job.engine.num_parameters()
        checkpoint.check_disk(checkpoints, size, settings.checkpoint, settings.num_exports)
    while True:
        try:
            position = train_from(position, job, settings)
            activity.begin(END)
            return position
        except GoBack as back:
            activity.begin(START)
            position = before(back.position, job, settings)


def train_from(position: Position, job: Job, settings: Settings) -> Position:
    """Train from a position that the engine is at."""
    engine, batches = job.engine, job.batches
    guard = Guard(settings.guard)
    if position.state:
        guard.restore(position.state["guard"])
        hooking.restore(job.hooks, position.state)
    throughput = Throughput(job.folder, position.step, job.peak)
    owed: Mapping[str, str] | None = position.state.get(OWED)
    with logs.opened(
        job.folder, position.step, batches.total_steps, repeats_step=owed is not None
    ) as written:
        tracker, ledger = written.tracker, written.ledger
        tracker.text("recipe", settings.description, position.step)
        tracker.hyperparameters(settings.hyperparameters)
        start = Start(job, settings, guard, written, throughput)
        if position.step == 0:
            tracker.log(0, evaluated(job, 0, tracker, throughput).metrics)
        began, seconds_before = time.monotonic(), position.seconds
        tracker.ends_at = began + (settings.budget_seconds or math.inf) - seconds_before
        processes.heed_stop()  # nothing was done that is not saved
        if owed is not None:
            metrics = {tag: float.fromhex(value) for tag, value in owed.items()}
            position = concluded(position, metrics, False, start)
        while not is_over(position, batches, settings):
            data_step = position.step + position.data_offset
            with throughput.waiting(position.step + 1):
                micro_batches = batches.micro_batches(data_step)
            work = work_of(micro_batches, job.flops)  # of all ranks
            engine.begin_step(len(micro_batches))
            losses = [engine.accumulate(m.inputs, work.targets) for m in micro_batches]
            loss_sum, stops, failures, seconds = processes.sum_over_ranks(
                [
                    sum(loss.item() for loss in losses),
                    signals.stop_requested(),
                    written.have_failed(),
                    (seconds_before + time.monotonic() - began) * (processes.rank() == 0),
                ]
            )
            if failures:
                written.flush()  # says which rank lacks a line
            loss = loss_sum / work.targets
            rate = job.learning_rate(position, progress(position, batches, settings))
            gradient_norm = engine.step(rate, partial(guard.accepts, loss))
            throughput.count(work.tokens, engine.take_seconds(), work.flops, work.slots)
            position = replace(
                position,
                step=position.step + 1,
                tokens=position.tokens + work.tokens,
                targets=position.targets + work.targets,
                seconds=seconds,
            )
            step = position.step
            ledger.write(step, loss, gradient_norm, rate, micro_batches, guard.refused, data_step)
            metrics = {}
            if guard.refused:
                metrics = {"health/skipped_steps_in_a_row": float(guard.in_a_row)}
                warn(step, guard.refused, batches.documents(data_step))
            is_last = is_over(position, batches, settings)
            if is_last or every(settings.track.interval_steps, step):
                metrics |= {
                    "loss/train": loss,
                    "optim/learning_rate": rate,
                    "optim/gradient_norm": gradient_norm,
                    "data/tokens": float(position.tokens),
                }
            position = concluded(position, metrics, bool(stops), start)
        tracker.finish()
    return position


@dataclass(frozen=True)
class Start:
    """One start of the loop: what stays the same from step to step."""

    job: Job
    settings: Settings
    guard: Guard
    written: logs.Logs
    throughput: Throughput

    def state(self) -> dict[str, Any]:
        """What guard and hooks decide by, for a checkpoint."""
        return {"guard": self.guard.state(), **hooking.states(self.job.hooks)}


def concluded(position: Position, metrics: dict[str, float], stops: bool, start: Start) -> Position:
    """The position after all that follows an update: evaluation, hooks, logs, checkpoint.

    A stop signal leaves evaluation and hooks to the next start, because they may take longer than
    this one has: the checkpoint then holds the metrics of the step. Raises StopRequested after
    saving, GoBack when too many updates were refused.
    """
    job, settings, throughput = start.job, start.settings, start.throughput
    tracker, step, state = start.written.tracker, position.step, start.state()
    is_last = is_over(position, job.batches, settings)
    updated, owed = position, dict(metrics)
    evaluation = None
    try:
        if is_last or every(settings.evaluate_every_steps, step):
            evaluation = evaluated(job, step, tracker, throughput)
            metrics |= evaluation.metrics
            position = judged(position, evaluation)
            is_last = is_over(position, job.batches, settings)
        share = 1.0 if is_last else progress(position, job.batches, settings)
        with throughput.excluded("hooks"):
            for hook in job.hooks:
                metrics |= hook.after_step(Done(position, share, is_last, evaluation))
    except StopRequested:
        if "loss/train" in owed and throughput.window.steps:
            owed |= throughput.read()
        exact = {tag: value.hex() for tag, value in owed.items()}
        save(replace(updated, state={**state, OWED: exact}), start)
        raise stopped(step, job.batches) from None
    if "loss/train" in metrics and throughput.window.steps:
        metrics |= throughput.read()
    if metrics:
        tracker.log(step, metrics)
    if start.guard.goes_back:
        raise GoBack(position)
    if is_last and evaluation:
        refuse_broken(evaluation)
    # A rollback goes to a checkpoint of the interval, whether or not the run was stopped. The best
    # one is needed at the end, wherever it is.
    is_best = evaluation is not None and position.best_step == step
    is_needed = is_best or not start.guard.in_a_row
    is_due = every(settings.checkpoint.interval_steps, step) and is_needed
    if is_last or stops or is_due:
        position = replace(position, state=start.state())
        save(position, start)
        # One that came since then is as well served by this checkpoint as by another.
        if stops or processes.any_rank(signals.stop_requested()):
            raise stopped(step, job.batches)
    return position


def stopped(step: int, batches: Batches) -> StopRequested:
    return StopRequested(
        f"stopped at step {step}/{batches.total_steps}, checkpoint saved; "
        "run the same command again to continue"
    )


def save(position: Position, start: Start) -> None:
    """Write a checkpoint; nothing that was logged up to it may be lost after it."""
    job, table = start.job, start.settings.checkpoint
    if start.guard.in_a_row:  # this one must not push out that which a rollback goes to
        table = table.model_copy(update={"keep_last": table.keep_last + 1})
    start.written.flush()
    folder = job.folder / checkpoint.FOLDER
    with start.throughput.excluded("checkpoint"):
        saved = checkpoint.save(job.engine, folder, position, job.identity, table)
    checkpoint.together(lambda: start.throughput.saved(saved.num_bytes, position.step))


def evaluated(job: Job, step: int, tracker: Tracker, throughput: Throughput) -> Evaluation:
    """Evaluate: the text goes to the tracker at once, the metrics with those of the step."""
    with throughput.excluded("evaluation"):
        evaluation = job.evaluate()
        predictions = "" if job.predict is None else job.predict()
    with throughput.excluded("hooks"):
        tracker.text("predictions", predictions, step)
        if job.show is not None:
            job.show(tracker, step)
    return evaluation


def before(refused: Position, job: Job, settings: Settings) -> Position:
    """Load the newest checkpoint of the interval and pass over the data since then. All ranks call
    it.

    What is counted goes on from the position that is given up: the run may go back to the same
    checkpoint again. One killed before its next checkpoint refuses the same steps and goes back in
    the same way.
    """
    checkpoints = job.folder / "checkpoints"
    applied = refused.step - settings.guard.max_skips_in_a_row
    interval = settings.checkpoint.interval_steps
    checkpoint.discard_after(checkpoints, applied // interval * interval)
    position = checkpoint.load_newest(job.engine, checkpoints, job.identity, settings.accepts_drift)
    if refused.rollbacks >= settings.guard.max_rollbacks or position.step == 0:
        where = f"step {position.step}" if position.step else "step 0 (no checkpoint yet)"
        raise NumericError(
            f"{settings.guard.max_skips_in_a_row} updates in a row were refused up to step "
            f"{refused.step}, after going back {refused.rollbacks} times; lower "
            "optimizer.learning_rate or raise schedule.warmup_share and run again with "
            f"--accept-drift: it continues from {where}"
        )
    data_offset = refused.data_offset + refused.step - position.step
    if processes.rank() == 0:
        passed = data_offset - position.data_offset
        log.warning(
            "going back to step %d, passing over the data of %d steps", position.step, passed
        )
    return replace(
        position,
        data_offset=data_offset,
        rollbacks=refused.rollbacks + 1,
        seconds=refused.seconds,
    )


def is_over(position: Position, batches: Batches, settings: Settings) -> bool:
    """True when no step follows."""
    return progress(position, batches, settings) >= 1.0 or is_exhausted(position, settings)


def progress(position: Position, batches: Batches, settings: Settings) -> float:
    """Share of the run done: of its steps' tokens, or of its wall clock if that is further."""
    share = batches.share_done(position.step)
    if settings.budget_seconds is not None:
        share = max(share, position.seconds / settings.budget_seconds)
    return min(share, 1.0)


def every(interval: int, step: int) -> bool:
    return step % interval == 0


def is_exhausted(position: Position, settings: Settings) -> bool:
    """True when the last evaluations brought nothing better."""
    patience = settings.patience
    return patience is not None and position.evaluations_since_best >= patience


def judged(position: Position, evaluation: Evaluation) -> Position:
    """The position after an evaluation: the best step so far and how long ago it was."""
    score = evaluation.score  # -inf: nothing was evaluated
    if math.isfinite(score) and (position.best_score is None or score > position.best_score):
        return replace(
            position,
            best_score=evaluation.score,
            best_step=position.step,
            evaluations_since_best=0,
        )
    return replace(position, evaluations_since_best=position.evaluations_since_best + 1)


def refuse_broken(evaluation: Evaluation) -> None:
    """Raise NumericError before a broken model is saved as the result."""
    if math.isnan(evaluation.score):
        raise NumericError(
            "the last evaluation gives no number and no step is left to go back and train; lower "
            "optimizer.learning_rate, set another `output` and run again"
        )


def warn(step: int, reason: str, documents: Sequence[str]) -> None:
    """Name what a refused step was made of."""
    if processes.rank() == 0:
        log.warning(
            "step %d was not applied (%s); its documents: %s%s",
            step, reason, ", ".join(documents[:20]), ", ..." if len(documents) > 20 else "",
        )  # fmt: skip
