"""Proof at start-up that packing is exact on the real model, before the first step.

Two things are shown on packed training samples, in evaluation mode and the run's own precision:

1. No leak: replacing every token of the odd segments leaves the hidden states of the even segments
   bit-identical.
2. Equal to unpacked: each segment alone, through the library's own attention and with the positions
   the library gives it, has the same hidden states as inside the packed row, up to rounding.

transformers passes both tests only with an attention that knows the boundaries; position_ids alone
fail the first one silently.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretrain.micro_batch import MicroBatch
from pretrain.model import attention
from pretrain.model.attention import segments_of
from pretrain.model.head import ADVICE
from pretrain.model.objective import MaskedLM
from runtime import processes
from runtime.engine import Engine
from runtime.errors import RecipeError

# Largest difference to unpacked, relative to the largest hidden state. The bf16 bound only catches
# wrong positions or windows; leaks are caught exactly by the first test.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
MAX_SEGMENTS = 8
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Probe:
    """A packed row (1, T) on the device and the bounds of the segments to compare."""

    input_ids: Tensor
    position_ids: Tensor
    segments: attention.Segments
    bounds: list[tuple[int, int]]


@torch.no_grad()
def prove(engine: Engine, objective: MaskedLM, micro_batch: MicroBatch, vocab_size: int) -> float:
    """Raise RecipeError unless packed equals unpacked; returns the difference found.

    All ranks call it with the same micro batch: under ZeRO-3 every forward is a collective.
    """
    probe = shortened(engine, micro_batch)
    was_training = objective.training
    objective.eval()
    packed = objective.encode(probe.input_ids, probe.position_ids, probe.segments)[0]
    refuse_leak(objective, probe, packed, vocab_size)
    difference = difference_to_unpacked(objective, probe, packed)
    objective.train(was_training)
    limit = TOLERANCE[packed.dtype]
    if difference > limit:
        raise RecipeError(
            f"packed and unpacked hidden states of this model differ by {difference:.1e} "
            f"(relative; at most {limit:.0e} is rounding): {type(objective.model).__name__} cannot "
            f"be trained on packed samples; {ADVICE}"
        )
    return difference


def shortened(engine: Engine, micro_batch: MicroBatch) -> Probe:
    """The first segments of a micro batch as a row of their own, the same on every rank."""
    boundaries = micro_batch.inputs["segments"].boundaries[: MAX_SEGMENTS + 1].tolist()
    end = boundaries[-1]
    lengths = micro_batch.inputs["segments"].boundaries[: MAX_SEGMENTS + 1].diff().long().numpy()
    inputs = engine.to_device(
        {
            "input_ids": micro_batch.inputs["input_ids"][:, :end],
            "position_ids": micro_batch.inputs["position_ids"][:, :end],
            "segments": segments_of(lengths),
        }
    )
    return Probe(**inputs, bounds=list(pairwise(boundaries)))


def refuse_leak(objective: MaskedLM, probe: Probe, packed: Tensor, vocab_size: int) -> None:
    """Change every odd segment; the even ones must not notice."""
    changed = probe.input_ids.clone()
    for start, end in probe.bounds[1::2]:
        changed[0, start:end] = (changed[0, start:end] + vocab_size // 2) % vocab_size
    after = objective.encode(changed, probe.position_ids, probe.segments)[0]
    for start, end in probe.bounds[0::2]:
        if not torch.equal(packed[start:end], after[start:end]):
            largest = (packed[start:end] - after[start:end]).abs().max().item()
            raise RecipeError(
                f"attention leaks between documents in {type(objective.model).__name__}: changing "
                f"one segment moved another by {largest:.1e}; this model cannot be packed; {ADVICE}"
            )


def difference_to_unpacked(objective: MaskedLM, probe: Probe, packed: Tensor) -> float:
    """Largest relative difference between segments inside the row and alone."""
    model = objective.model
    largest = 0.0
    with own_attention(model):
        for start, end in probe.bounds:
            ids = probe.input_ids[:, start:end]
            if (ids == model.config.pad_token_id).any():
                continue  # padding: some classes number it apart, and it is never attended to
            alone = model.base_model(input_ids=ids)[0][0]
            largest = max(largest, (alone - packed[start:end]).abs().max().item())
    return largest / max(packed.abs().max().item(), 1e-12)


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """The library's attention of a model in place of ours."""
    model.config._attn_implementation = "sdpa" if model._supports_sdpa else "eager"
    try:
        yield
    finally:
        model.config._attn_implementation = attention.NAME


def report(difference: float, dtype: torch.dtype) -> None:
    """Say on rank 0 that packing is exact."""
    if processes.rank() == 0:
        log.info("packing is exact: no leak, unpacked differs by %.1e (%s)", difference, dtype)
