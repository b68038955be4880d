"""Score a model that is being trained, on all ranks in lockstep.

Ranks take length-sorted batches of a number of tokens in turn and forward equally often (a rank
without a batch forwards a blank one: under ZeRO-3 a rank that stays away is a hang). Outputs are
gathered at the end, once, so every rank decodes and scores the same whole file and no decision
needs a broadcast.

Of a model with several tasks, `part` is the objective of the task that is scored.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.collate import blank, length_groups, split_outputs
from finetune.heads import Objective
from finetune.losses import num_targets
from finetune.prepare import Prepared
from finetune.task import Scores, Window
from runtime import processes
from runtime.engine import Engine

BATCH_TOKENS = 1024  # padding included; small batches are fastest on CPUs
BATCH_TOKENS_ON_GPU = 32768


@dataclass(frozen=True)
class Scored:
    """The result on one split."""

    scores: Scores
    loss: float  # a target
    predictions: list[Any]  # the plug-in's, in row order


@dataclass(frozen=True)
class Outputs:
    """What a model says of windows."""

    logits: list[NDArray[np.float32]]  # (N, L) of each window
    loss: float  # the objective's, a target


def evaluate(
    engine: Engine,
    prepared: Prepared,
    split: str,
    decoding: Mapping[str, Any],
    part: Objective | None = None,
) -> Scored:
    """Predict and score a split. All ranks call it."""
    found = outputs(engine, prepared.encoded[split].windows, part)
    return scored(prepared, split, found, decoding)


def scored(prepared: Prepared, split: str, found: Outputs, decoding: Mapping[str, Any]) -> Scored:
    """Decode and score the outputs of a model on a split."""
    plugin, dataset, encoded = prepared.plugin, prepared.data[split], prepared.encoded[split]
    predictions = plugin.decode(dataset, encoded, found.logits, prepared.labels, decoding)
    return Scored(plugin.score(dataset, predictions, prepared.labels), found.loss, predictions)


def decoding(engine: Engine, prepared: Prepared, part: Objective | None = None) -> dict[str, Any]:
    """What decoding starts with: what the loss says, and the transitions it trained. All ranks
    call it."""
    found = dict(prepared.loss.decoding)
    chain = (part or whole(engine)).loss.chain
    if chain is not None:
        trained = chain.transitions(engine.whole_parameters(chain))
        found["transitions"] = {name: values.tolist() for name, values in trained.items()}
    return found


def calibrated(
    engine: Engine, prepared: Prepared, part: Objective | None = None
) -> tuple[dict[str, Scored], dict[str, Any]]:
    """Scores on every split with decoding calibrated on valid, and that decoding. All ranks call
    it."""
    start = decoding(engine, prepared, part)
    found = {
        split: outputs(engine, prepared.encoded[split].windows, part) for split in prepared.scored
    }
    data, encoded = prepared.data["valid"], prepared.encoded["valid"]
    fitted = prepared.plugin.calibrate(data, encoded, found["valid"].logits, prepared.labels, start)
    return {split: scored(prepared, split, found[split], fitted) for split in found}, fitted


def outputs(engine: Engine, windows: Sequence[Window], part: Objective | None = None) -> Outputs:
    """The scored logits of every window, and the loss, on every rank. All ranks call it; raises
    StopRequested on all of them after a stop signal to any."""
    objective = part or whole(engine)
    limit = BATCH_TOKENS if engine.device.type == "cpu" else BATCH_TOKENS_ON_GPU
    groups = length_groups([len(window.input_ids) for window in windows], limit)
    world, rank = processes.world_size(), processes.rank()
    mine: list[tuple[list[int], Any]] = []
    loss_sum = 0.0
    for turn in range(math.ceil(len(groups) / world)):
        processes.heed_stop()
        place = turn * world + rank
        group = groups[place] if place < len(groups) else []
        batch = [windows[i] for i in group] or [blank(windows[0])]
        loss, logits = engine.evaluate(objective.inputs(batch))[:2]
        loss_sum += float(loss)
        if group:
            mine.append((group, logits.cpu().numpy()))
    count = sum(num_targets(window.targets) for window in windows)
    every: list[Any] = [None] * len(windows)
    for found, _ in (gathered := processes.gather((mine, loss_sum))):
        for group, logits in found:
            parts = split_outputs(logits, [windows[i] for i in group])
            for i, part_of_it in zip(group, parts, strict=True):
                every[i] = part_of_it
    return Outputs(every, sum(loss for _, loss in gathered) / max(count, 1))


def whole(engine: Engine) -> Objective:
    """The objective of a model with one task."""
    module = engine.module
    assert isinstance(module, Objective)
    return module
