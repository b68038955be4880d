"""Attention over packed samples that never crosses a segment.

Registers the attention `packed_varlen` with transformers. Models built with it receive the layout
of the micro batch as the keyword argument `segments` and attend inside each segment only. On CUDA
this is `torch.nn.attention.varlen`, where that can be (bf16 or fp16 and no dropout of attention
weights). Else segments of similar length are gathered into dense batches and attention is written
out as matmul, softmax, matmul, which is on CPUs several times faster than one fused call a segment.
Restarting position_ids alone is no alternative: it leaks attention between documents. Other uses of
a model (no `segments` given) are refused rather than silently dense.
"""

# N segments  L longest segment of a group  T tokens of the micro batch  H heads  K head width

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from pretrain.model.dropout import dropped

NAME = "packed_varlen"
LENGTH_STEP = 32  # segments whose lengths round up to the same multiple share a dense batch
MOST_WIDTH = 256  # of a head in flash attention
STEADY_STEP = 8  # tokens to whose multiple a dense batch is as long where shapes should repeat


@dataclass(frozen=True)
class Group:
    """Segments of similar length as one dense batch."""

    index: Tensor  # (N, L) token positions; positions beyond a segment's end repeat its last token
    is_key: Tensor  # (N, L) true where the position belongs to the segment
    is_full: bool  # no segment of the group is shorter than L
    masks: dict[tuple[int | None, torch.dtype], Tensor | None] = field(
        default_factory=dict
    )  # by window and type, once made

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores: -inf for `hidden_keys`, else 0; made once for all layers of
        a micro batch. Adding is vectorised, filling by bools is not."""
        key = window, dtype
        if key not in self.masks:
            hidden = hidden_keys(self, window)
            self.masks[key] = (
                None
                if hidden is None
                else torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, float("-inf"))
            )
        return self.masks[key]


@dataclass(frozen=True)
class Dense:
    """The dense batches of a row, and the way there and back."""

    groups: tuple[Group, ...]
    order: Tensor  # token positions of all groups, one after the other
    restore: Tensor  # (T,) where each token's result stands in `order`

    def to(self, device: torch.device) -> "Dense":
        """The same batches on a device."""
        if device.type == "cpu":
            return self
        groups = tuple(
            Group(group.index.to(device), group.is_key.to(device), group.is_full)
            for group in self.groups
        )
        return Dense(groups, self.order.to(device), self.restore.to(device))


@dataclass(frozen=True)
class Segments:
    """Where the segments of a packed row (1, T) begin and end."""

    boundaries: Tensor  # (num_segments + 1,) int32, from 0 to T without the filler
    longest: int  # tokens
    lengths: np.ndarray  # (num_segments,) tokens
    filler: int | None = None  # tokens at the end of the row that belong to no segment; None: 0

    @property
    def num_filled(self) -> int:
        """Tokens at the end of the row that belong to no segment."""
        return self.filler or 0

    @cached_property
    def dense(self) -> Dense:
        """The row as dense batches, made when first asked for: variable-length attention does
        without."""
        return dense_of(self.lengths, self.filler).to(self.boundaries.device)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Segments":
        """The same layout on a device."""
        if device.type == "cpu":
            return self
        return replace(self, boundaries=self.boundaries.to(device, non_blocking=non_blocking))


def segments_of(lengths: np.ndarray, filler: int | None = None) -> Segments:
    """The layout of consecutive segments; `lengths` (num_segments,) and `filler` cover the row.

    `filler` counts tokens at the end that belong to no segment and give a result that nobody reads
    (dense batches only); with it, even 0, the dense batches have lengths that other rows have, too.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    boundaries = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32))
    return Segments(boundaries, int(lengths.max()), lengths, filler)


def dense_of(lengths: np.ndarray, filler: int | None) -> Dense:
    """Segments of similar length as dense batches; see `segments_of`."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    rounded = -(-lengths // LENGTH_STEP) * LENGTH_STEP
    groups = []
    order = []
    for size in np.unique(rounded):
        members = np.flatnonzero(rounded == size)
        longest = int(lengths[members].max())
        if filler is not None:
            longest = -(-longest // STEADY_STEP) * STEADY_STEP
        offsets = np.arange(longest)
        is_key = offsets < lengths[members, None]
        index = starts[members, None] + np.minimum(offsets, lengths[members, None] - 1)
        groups.append(Group(torch.from_numpy(index), torch.from_numpy(is_key), bool(is_key.all())))
        order.append(np.where(is_key, index, -1).ravel())
    flat = np.concatenate(order)
    slots = np.flatnonzero(flat >= 0)
    restore = np.zeros(len(slots) + (filler or 0), np.int64)
    restore[flat[slots]] = slots
    return Dense(
        groups=tuple(groups),
        order=torch.cat([group.index.reshape(-1) for group in groups]),
        restore=torch.from_numpy(restore),
    )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **_unused: object,
) -> tuple[Tensor, None]:
    """The attention transformers calls; query, key, value (1, H, T, K), result (1, T, H, K)."""
    if segments is None:
        raise AssertionError("packed attention needs `segments`; pass them to the model")
    if attention_mask is not None:
        raise AssertionError("packed attention takes its boundaries from `segments` alone")
    # transformers passes the window with both ends counted as flash attention does: minus one
    window = None if sliding_window is None else sliding_window - 1
    groups = query.shape[1] // key.shape[1]  # heads of queries that share one of keys and values
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # (T, H, K)
    if q.is_meta:  # only shapes are asked for
        return torch.empty_like(v)[None], None
    if q.is_cuda and has_variable_length(q, dropout):
        return by_variable_length(q, k, v, scaling, window, segments)[None], None
    return in_dense_batches(q, k, v, scaling, dropout, window, segments)[None], None


def has_variable_length(q: Tensor, dropout: float) -> bool:
    """True where flash attention on CUDA can do it; queries q (T, H, K)."""
    is_half = q.dtype in (torch.bfloat16, torch.float16)
    is_fitting = q.shape[-1] % 8 == 0 and q.shape[-1] <= MOST_WIDTH
    return not dropout and is_half and is_fitting and torch.cuda.get_device_capability() >= (8, 0)


def by_variable_length(
    q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None, at: Segments
) -> Tensor:
    """Variable-length flash attention: (T, H, K) each, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn  # absent in CPU builds of older versions

    window_size = (-1, -1) if window is None else (window, window)
    starts = at.boundaries
    mixed = varlen_attn(
        q.contiguous(), k.contiguous(), v.contiguous(), starts, starts, at.longest, at.longest,
        scale=scaling, window_size=window_size,
    )  # fmt: skip
    assert isinstance(mixed, Tensor)
    return mixed


def in_dense_batches(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scaling: float,
    dropout: float,
    window: int | None,
    at: Segments,
) -> Tensor:
    """Dense attention over each group of similar segments: (T, H, K) each.

    Tokens are brought into the order of the groups once, and cut there: a gather for each group
    would add up a whole (T, H, K) gradient for each in the backward pass.
    """
    dense = at.dense
    sizes = [group.index.numel() for group in dense.groups]
    cuts = [torch.split(states.index_select(0, dense.order), sizes) for states in (q, k, v)]
    results = []
    for group, *parts in zip(dense.groups, *cuts, strict=True):
        # (N x L, H, K) -> (N, H, L, K)
        queries, keys, values = (
            part.view(*group.index.shape, *part.shape[1:]).transpose(1, 2) for part in parts
        )
        scores = torch.matmul(queries * scaling, keys.transpose(2, 3))  # (N, H, L, L)
        mask = group.mask(window, scores.dtype)
        if mask is not None:
            scores = scores + mask
        weights = torch.softmax(scores, dim=-1)
        if dropout:
            weights = dropped(weights, dropout)
        mixed = torch.matmul(weights, values)  # (N, H, L, K)
        results.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(results).index_select(0, dense.restore)


def hidden_keys(group: Group, window: int | None) -> Tensor | None:
    """True where a query must not see a key, broadcastable to (N, H, L, L); None if it sees all."""
    longest = group.index.shape[1]
    hidden = None if group.is_full else ~group.is_key[:, None, None, :]
    if window is not None and longest > window + 1:
        offsets = torch.arange(longest, device=group.index.device)
        is_far = (offsets[:, None] - offsets[None, :]).abs() > window  # (L, L)
        # a query beyond its segment's end would see nothing and give NaN: its window stays open
        is_far = is_far & group.is_key[:, None, :, None] if hidden is not None else is_far
        hidden = is_far if hidden is None else hidden | is_far
    return hidden


AttentionInterface.register(NAME, packed_attention)
