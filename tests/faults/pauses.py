"""Hold the ranks of a run at a chosen moment, until a test has done to them what it is about.

A plan is JSON: {"folder": FOLDER, "moments": [[NAME, STEP], ...]}. The moments come in this order.
At moment I rank R writes FOLDER/at-I-R, writes FOLDER/heard-I-R once a stop signal has come to it,
and goes on when there is FOLDER/go-I. STEP counts from 1; of "start" and "scoring" it means
nothing. NAME is

    start         before the model is built
    evaluation    in the first micro batch of the evaluation after the step (0: before the first)
    step          in the second micro batch of the step
    update        after the ranks have agreed on whether to stop at the step
    save          when the shards of the step's checkpoint are written and not yet sealed
    scoring       in the first micro batch after training, of the scores of a task

`paused_run.py` and `paused_start/` put these into real ranks.
"""

import json
import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from pretrain import train
from runtime import checkpoint, signals
from runtime.engine import Engine
from runtime.throughput import Throughput
from runtime.tracking import Tracker

LONGEST_SECONDS = 120.0
POLL_SECONDS = 0.01


class Plan:
    """The moments that are still to come."""

    def __init__(self, text: str) -> None:
        given = json.loads(text)
        self.folder = Path(given["folder"])
        self.left = [(number, *moment) for number, moment in enumerate(given["moments"])]
        self.step = 0  # that is being trained
        self.micro_batch = 0  # of it
        self.evaluated: int | None = None  # step whose evaluation is going on
        self.is_trained = False

    def reached(self, name: str, step: int) -> None:
        """Wait here if this is the next moment."""
        if not self.left or self.left[0][1] != name:
            return
        number, _, wanted = self.left[0]
        if name not in ("start", "scoring") and wanted != step:
            return
        del self.left[0]
        rank = os.environ["RANK"]
        (self.folder / f"at-{number}-{rank}").touch()
        ends = time.monotonic() + LONGEST_SECONDS
        while not (self.folder / f"go-{number}").exists():
            if signals.stop_requested():
                (self.folder / f"heard-{number}-{rank}").touch()
            if time.monotonic() > ends:
                raise TimeoutError(f"nobody let rank {rank} go on at {name} {step}")
            time.sleep(POLL_SECONDS)


def install(text: str) -> None:
    """Put the moments of a plan into this process."""
    plan = Plan(text)

    def at_start(*args: object, **kwargs: object) -> None:
        plan.reached("start", 0)

    def at_data(meter: object, step: int) -> None:
        plan.step, plan.micro_batch = step, 0

    def at_micro_batch(*args: object) -> None:
        plan.micro_batch += 1
        if plan.micro_batch == 2:
            plan.reached("step", plan.step)

    def at_forward(*args: object) -> None:
        if plan.evaluated is not None:
            plan.reached("evaluation", plan.evaluated)
        elif plan.is_trained:
            plan.reached("scoring", plan.step)

    def at_end(*args: object) -> None:
        plan.is_trained = True

    def at_seal(folder: Path) -> None:
        plan.reached("save", int(folder.name.removesuffix(".tmp").rpartition("-")[2]))

    evaluated = train.evaluated

    @wraps(evaluated)
    def watched(job: Any, step: int, *others: Any) -> Any:
        plan.evaluated = step
        try:
            return evaluated(job, step, *others)
        finally:
            plan.evaluated = None

    before(Engine, "__init__", at_start)
    before(Throughput, "waiting", at_data)
    before(Engine, "accumulate", at_micro_batch)
    before(Engine, "step", lambda *args: plan.reached("update", plan.step))
    before(Engine, "evaluate", at_forward)
    before(checkpoint, "seal_files", at_seal)
    before(Tracker, "finish", at_end)
    train.evaluated = watched  # type: ignore[assignment]


def before(owner: Any, name: str, happens: Callable[..., None]) -> None:
    """Have something happen before a function does its work."""
    found = getattr(owner, name)

    @wraps(found)
    def changed(*args: Any, **kwargs: Any) -> Any:
        happens(*args, **kwargs)
        return found(*args, **kwargs)

    setattr(owner, name, changed)
