"""Floating-point operations that training needs, counted for the segments that are really packed.

A token costs, forward and backward together (a product of an a x b matrix is 2ab operations forward
and twice that backward):

    6 x encoder matrices                       every token
    12 x attention width x keys it attends to  every token and layer
    6 x head matrices                          every target: the head runs on masked tokens only

The keys are counted from the lengths of the segments; a local layer's from its window. Left out are
embeddings (look-ups), norms, activations and everything done only for lack of memory or for static
shapes: padding, padded targets, layers computed again. So a run that does less of that has a higher
MFU, not a higher count.
"""

# K targets  L tokens of a segment

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from pretrain.micro_batch import MicroBatch
from runtime import processes
from runtime.engine import full_shape

FORWARD_AND_BACKWARD = 6  # operations for each entry of a matrix
NOT_RUN = ("pooler",)  # modules of an encoder that masked-LM training never calls


@dataclass(frozen=True)
class Flops:
    """What a model needs, forward and backward."""

    per_token: int  # matrix products of the encoder
    per_target: int  # of the prediction head
    width: int  # of attention: heads x their width
    windows: Mapping[int | None, int]  # keys seen on each side (None: all): number of such layers
    pad_id: int  # the token that a segment of padding begins with

    def of(self, micro_batch: MicroBatch) -> float:
        """Operations of one micro batch, exact for its segments."""
        lengths = self.lengths(micro_batch)
        attended = sum(
            num_layers * num_keys(lengths, window) for window, num_layers in self.windows.items()
        )
        return float(
            self.per_token * micro_batch.num_tokens
            + self.per_target * micro_batch.num_targets
            + 2 * FORWARD_AND_BACKWARD * self.width * attended
        )

    def lengths(self, micro_batch: MicroBatch) -> np.ndarray:
        """The lengths of a micro batch's segments, padding left out."""
        bounds = micro_batch.inputs["segments"].boundaries.numpy().astype(np.int64)
        lengths, starts = np.diff(bounds), bounds[:-1]
        starts, lengths = starts[lengths > 0], lengths[lengths > 0]
        tokens = micro_batch.inputs["input_ids"][0].numpy()
        return np.asarray(lengths[tokens[starts] != self.pad_id])


@dataclass(frozen=True)
class Work:
    """What a step consists of, all ranks together."""

    targets: int
    tokens: int  # without padding
    slots: int  # with it
    flops: float


def num_keys(lengths: np.ndarray, window: int | None) -> int:
    """Pairs of a token and a key it attends to: L x L, or those at most `window` apart."""
    if window is None:
        return int((lengths * lengths).sum())
    side = np.minimum(window, lengths - 1)
    # the first and last `side` tokens miss 1 to `side` keys each
    return int((lengths * (2 * side + 1) - side * (side + 1)).sum())


def work_of(micro_batches: Sequence[MicroBatch], flops: Flops | None) -> Work:
    """Sum up a step; without `flops` its operations are 0. All ranks call it with their share."""
    targets, tokens, slots, operations = processes.sum_over_ranks(
        [
            sum(micro_batch.num_targets for micro_batch in micro_batches),
            sum(micro_batch.num_tokens for micro_batch in micro_batches),
            sum(micro_batch.inputs["input_ids"].numel() for micro_batch in micro_batches),
            0.0 if flops is None else sum(flops.of(micro_batch) for micro_batch in micro_batches),
        ]
    )
    return Work(int(targets), int(tokens), int(slots), operations)


def of_model(model: PreTrainedModel, pad_id: int) -> Flops:
    """Count a masked-LM model's matrices; shapes are known even where ZeRO-3 has sharded them."""
    config = model.config
    inside = f"{model.base_model_prefix}."
    encoder = head = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or any(part in NOT_RUN for part in name.split(".")):
            continue
        if name.startswith(inside):
            encoder += matrix_entries(module) * repeats(name, config)
        else:
            head += matrix_entries(module)
    head_width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return Flops(
        per_token=FORWARD_AND_BACKWARD * encoder,
        per_target=FORWARD_AND_BACKWARD * head,
        width=config.num_attention_heads * head_width,
        windows=windows(config),
        pad_id=pad_id,
    )


def matrix_entries(module: nn.Module) -> int:
    """Entries of the matrices that a module itself multiplies by; tied ones count at each place."""
    shapes = (full_shape(parameter) for parameter in module.parameters(recurse=False))
    return sum(shape.numel() for shape in shapes if len(shape) >= 2)


def repeats(name: str, config: object) -> int:
    """How often an encoder runs a module: ALBERT's layers are few and taken several times."""
    groups = getattr(config, "num_hidden_groups", None)
    if groups is None or "albert_layer_groups" not in name:
        return 1
    return int(config.num_hidden_layers // groups)  # type: ignore[attr-defined]


def windows(config: object) -> dict[int | None, int]:
    """Keys that a token sees on each side in a layer (None: the whole segment): number of layers.

    transformers' `sliding_window` of a bidirectional encoder is the radius, own token left out.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return {None: int(config.num_hidden_layers)}  # type: ignore[attr-defined]
    radius = getattr(config, "sliding_window", None)
    return dict(Counter(radius if kind == "sliding_attention" else None for kind in kinds))
