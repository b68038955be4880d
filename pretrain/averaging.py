"""The mean of the weights of the last checkpoints, as a second export that can only be compared.

LAWA (Kaddour 2022, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest
Weight Averaging", arXiv 2209.14981): the plain mean of the last k checkpoints of one run, taken at
regular steps, after the idea of stochastic weight averaging (Izmailov et al. 2018, arXiv
1803.05407). It helps most while the learning rate is still high; after a decay to zero the last
weights are often as good, so both are evaluated and the run says which is better.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.export import Exporter
from pretrain.train import Job
from runtime import checkpoint, config, processes, retention
from runtime.checkpoint import Position
from runtime.tracking import Tracker

FOLDER = "export-average"
LOSS = "loss/valid"
log = logging.getLogger("textmill")


def average_last(
    count: int, job: Job, table: config.Checkpoint, position: Position, exporter: Exporter
) -> dict[str, Any]:
    """Export the mean of the last `count` checkpoints and evaluate it; all ranks call it at the end
    of a run.

    Returns what the manifest says of it. Nothing can be trained afterwards: the engine is left with
    older optimizer states and the averaged weights.
    """
    checkpoints = job.folder / "checkpoints"
    steps = processes.from_rank_0(steps_to_average(checkpoints, position.step, table, count))
    last = job.evaluate()
    total = Mean()
    used = []
    for step in reversed(steps):
        if step != position.step:  # those weights are in the engine
            path = retention.path_of(checkpoints, step)
            fault = checkpoint.first_fault(path)
            if fault is not None:
                say("checkpoint %s is damaged and not averaged: %s", path, fault)
                continue
            checkpoint.load(job.engine, path, job.identity, accepts_drift=bool(position.drift))
        total.add(job.engine.full_parameters())
        used.append(step)
    if processes.rank() == 0:
        shutil.rmtree(checkpoints / retention.UNIVERSAL, ignore_errors=True)
    if len(used) < count:
        say("only %d of %d checkpoints could be averaged: steps %s", len(used), count, used)
    mean = total.mean()
    exporter.write_weights(mean, job.folder / FOLDER, {"averaged_steps": used[::-1]})
    job.engine.show_parameters(mean)
    found = job.evaluate()
    checkpoint.together(lambda: log_average(job.folder, position.step, found.metrics))
    if processes.rank() == 0 and LOSS in found.metrics:
        log.info(
            "mean of the weights of steps %s: validation loss %.4f, the last weights alone %.4f",
            ", ".join(map(str, used[::-1])), found.metrics[LOSS], last.metrics[LOSS],
        )  # fmt: skip
    return {"steps": used[::-1], "metrics": found.metrics, "metrics_of_last": last.metrics}


def steps_to_average(
    folder: Path, last_step: int, table: config.Checkpoint, count: int
) -> list[int]:
    """The last weights and the newest regular checkpoints before them, oldest first.

    A checkpoint written because the run was stopped is left out: the mean must not depend on that.
    """
    before = [step for step in retention.steps(folder) if step < last_step]
    regular = retention.regular(before, table)
    return [*regular[len(regular) - min(count - 1, len(regular)) :], last_step]


class Mean:
    """A running mean of weights in float64; empty on ranks that hold none."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, parameters: Mapping[str, Tensor] | None) -> None:
        self.count += 1
        for name, value in (parameters or {}).items():
            if not value.is_floating_point():  # counters and ids: those of the last weights
                self.sums.setdefault(name, value)
            elif name in self.sums:
                self.sums[name] += value
            else:
                self.sums[name] = value.double()

    def mean(self) -> dict[str, Tensor] | None:
        """The mean in fp32, None where nothing was added."""
        means = {
            name: (value / self.count).float() if value.is_floating_point() else value
            for name, value in self.sums.items()
        }
        return means or None


def log_average(folder: Path, last_step: int, metrics: Mapping[str, float]) -> None:
    """Log the evaluation one step after the last: a repeated end of a run replaces it there."""
    renamed = {f"eval_average/{name(tag)}": value for tag, value in metrics.items()}
    with Tracker(folder, last_step, last_step + 1, processes.rank() == 0) as tracker:
        tracker.log(last_step + 1, renamed)
        tracker.flush()


def name(tag: str) -> str:
    """`eval/accuracy` becomes `accuracy`, `loss/valid` becomes `loss_valid`."""
    return tag.removeprefix("eval/").replace("/", "_")


def say(message: str, *values: object) -> None:
    if processes.rank() == 0:
        log.warning(message, *values)
