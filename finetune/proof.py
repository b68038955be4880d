"""Proof at start-up that packed rows give the logits of the plain model, before the first step.

On training windows, in evaluation mode and the run's own precision:
1. Equal to padded: the same windows, padded, through the library's own attention, have the same
   logits up to rounding.
2. No leak: replacing the tokens of every other window leaves the logits of the rest bit-identical.

A model that fails either is trained on padded windows, and a warning says by how much it failed.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from finetune.heads import Objective
from finetune.task import Window
from pretrain.model.proof import TOLERANCE
from runtime import processes
from runtime.engine import Engine

MAX_WINDOWS = 8
MAX_TOKENS = 2048  # of the windows compared; at least two are
log = logging.getLogger("textmill")


def settle(engine: Engine, parts: Sequence[tuple[Objective, Sequence[Window]]]) -> None:
    """Leave objectives on one encoder packed if that is exact for all of them, else pad for all.

    All ranks call it: every forward may be a collective.
    """
    if not all(objective.is_packed for objective, _ in parts):
        for objective, _ in parts:
            objective.pack(False)
        return
    proofs = [prove(engine, objective, compared(windows)) for objective, windows in parts]
    largest = max(difference for difference, _ in proofs)
    leak = max(leak for _, leak in proofs)
    dtype = next(parts[0][0].model.parameters()).dtype
    if largest <= TOLERANCE[dtype] and leak == 0.0:
        if processes.rank() == 0:
            log.info("packing is exact: no leak, padded differs by %.1e (%s)", largest, dtype)
        return
    for objective, _ in parts:
        objective.pack(False)
    if processes.rank() == 0:
        log.warning(
            "packed and padded logits of %s differ by %.1e (relative; at most %.0e is rounding), "
            "and windows change each other by %.1e: its batches are padded",
            type(parts[0][0].model).__name__, largest, TOLERANCE[dtype], leak,
        )  # fmt: skip


def compared(windows: Sequence[Window]) -> list[Window]:
    """The longest and the shortest window and the first ones, as far as the tokens allow."""
    by_length = sorted(range(len(windows)), key=lambda i: len(windows[i].input_ids))
    chosen = list(dict.fromkeys([by_length[-1], by_length[0], *range(MAX_WINDOWS)]))
    found = [windows[i] for i in chosen if i < len(windows)][:MAX_WINDOWS]
    sizes = np.cumsum([len(window.input_ids) for window in found])
    return found[: max(2, int((sizes <= MAX_TOKENS).sum()))]


def prove(engine: Engine, objective: Objective, windows: Sequence[Window]) -> tuple[float, float]:
    """The largest difference to padded, relative to the largest logit, and the largest change of
    the even windows when the odd ones change, which must be 0."""
    packed = logits(engine, objective, windows)
    changed = [
        replace(window, input_ids=ids) if number % 2 else window
        for number, (window, ids) in enumerate(zip(windows, other_ids(windows), strict=True))
    ]
    after = logits(engine, objective, changed)
    counts = [len(window.positions) for window in windows]
    is_even = np.repeat(np.arange(len(windows)) % 2 == 0, counts)
    leak = largest(packed[is_even] - after[is_even])
    objective.pack(False)
    plain = logits(engine, objective, windows)
    objective.pack(True)
    return largest(packed - plain) / max(largest(plain), 1e-12), leak


def other_ids(windows: Sequence[Window]) -> list[NDArray[np.int32]]:
    """For every window others of the tokens that all windows have: a model need not know more."""
    known = np.unique(np.concatenate([window.input_ids for window in windows]))
    shift = len(known) // 2
    return [
        known[(np.searchsorted(known, window.input_ids) + shift) % len(known)] for window in windows
    ]


def logits(engine: Engine, objective: Objective, windows: Sequence[Window]) -> Tensor:
    return engine.evaluate(objective.inputs(windows))[1].cpu()


def largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
