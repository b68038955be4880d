"""Score a model that is being trained, on all ranks in lockstep.

Ranks take length-sorted batches in turn and forward equally often (a rank without a batch forwards
a blank one: under ZeRO-3 a rank that stays away is a hang). Logits are gathered, so every rank
decodes and scores the same whole file and no decision needs a broadcast.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.collate import blank, collate, length_groups, split_outputs
from finetune.logits import log_softmax
from finetune.prepare import Prepared
from finetune.task import Scores, Window
from runtime import processes
from runtime.engine import Engine

BATCH_TOKENS = 4096  # padding included


@dataclass(frozen=True)
class Scored:
    """The result on one split."""

    scores: Scores
    loss: float  # a target
    predictions: list[Any]  # the plug-in's, in row order


def evaluate(engine: Engine, prepared: Prepared, split: str, decoding: Mapping[str, Any]) -> Scored:
    """Predict and score a split. All ranks call it."""
    encoded = prepared.encoded[split]
    pad_id = prepared.encoder.tokenizer.pad_id
    logits = all_logits(engine, prepared.plugin.HEAD, encoded.windows, pad_id)
    return scored(prepared, split, logits, decoding)


def scored(
    prepared: Prepared,
    split: str,
    logits: Sequence[NDArray[np.float32]],
    decoding: Mapping[str, Any],
) -> Scored:
    """Decode and score the outputs of a model on a split."""
    plugin, dataset, encoded = prepared.plugin, prepared.data[split], prepared.encoded[split]
    predictions = plugin.decode(dataset, encoded, logits, prepared.labels, decoding)
    scores = plugin.score(dataset, predictions, prepared.labels)
    return Scored(scores, mean_loss(logits, encoded.windows), predictions)


def decoding(engine: Engine, prepared: Prepared) -> dict[str, Any]:
    """What decoding starts with: what the loss says, and parameters it trained. All ranks call
    it."""
    return dict(prepared.loss.decoding)


def calibrated(engine: Engine, prepared: Prepared) -> tuple[dict[str, Scored], dict[str, Any]]:
    """Scores on every split with decoding calibrated on valid, and that decoding. All ranks call
    it."""
    start = decoding(engine, prepared)
    pad_id = prepared.encoder.tokenizer.pad_id
    logits = {
        split: all_logits(engine, prepared.plugin.HEAD, prepared.encoded[split].windows, pad_id)
        for split in prepared.scored
    }
    fitted = prepared.plugin.calibrate(
        prepared.data["valid"], prepared.encoded["valid"], logits["valid"], prepared.labels, start
    )
    return {split: scored(prepared, split, logits[split], fitted) for split in logits}, fitted


def all_logits(
    engine: Engine, head: str, windows: Sequence[Window], pad_id: int
) -> list[NDArray[np.float32]]:
    """The scored logits (N, L) of every window, on every rank. All ranks call it."""
    groups = length_groups([len(window.input_ids) for window in windows], BATCH_TOKENS)
    world, rank = processes.world_size(), processes.rank()
    mine: dict[int, NDArray[np.float32]] = {}
    for turn in range(math.ceil(len(groups) / world)):
        place = turn * world + rank
        group = groups[place] if place < len(groups) else []
        batch = [windows[i] for i in group] or [blank(windows[0])]
        arrays = collate(batch, head, pad_id)
        outputs = engine.evaluate({name: torch.from_numpy(a) for name, a in arrays.items()})
        parts = split_outputs(outputs[1].float().cpu().numpy(), batch)
        mine |= dict(zip(group, parts, strict=False))
    merged = {i: part for found in processes.gather(mine) for i, part in found.items()}
    return [merged[i] for i in range(len(windows))]


def mean_loss(logits: Sequence[NDArray[np.float32]], windows: Sequence[Window]) -> float:
    """Cross-entropy a target, in nats."""
    total, count = 0.0, 0
    for scores, window in zip(logits, windows, strict=True):
        known = window.targets >= 0
        chosen = log_softmax(scores)[np.flatnonzero(known), window.targets[known]]
        total -= float(chosen.astype(np.float64).sum())
        count += int(known.sum())
    return total / max(count, 1)
