"""Windows to padded arrays, and which windows go together. Numpy only, for training and serving."""

# B windows  T tokens of the longest one  N scored outputs

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.task import Window

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def collate(windows: Sequence[Window], head: str, pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Model inputs (B, T), and of the scored outputs the flat `positions` and `targets` (N,).

    Positions index the outputs of a token head as (B x T,), those of a sequence head as (B,).
    """
    length = max(len(window.input_ids) for window in windows)
    input_ids = np.full((len(windows), length), pad_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    found = {"input_ids": input_ids, "attention_mask": attention_mask}
    if windows[0].token_type_ids is not None:
        found["token_type_ids"] = np.zeros_like(input_ids)
    for i, window in enumerate(windows):
        size = len(window.input_ids)
        input_ids[i, :size] = window.input_ids
        attention_mask[i, :size] = 1
        if window.token_type_ids is not None:
            found["token_type_ids"][i, :size] = window.token_type_ids
    stride = length if head == "token" else 1
    found["positions"] = np.concatenate(
        [window.positions + i * stride for i, window in enumerate(windows)]
    ).astype(np.int64)
    found["targets"] = np.concatenate([window.targets for window in windows])
    return found


def blank(window: Window) -> Window:
    """A window of the same shape of inputs that scores nothing: it keeps other ranks company."""
    types = window.token_type_ids
    return Window(
        row=-1,
        input_ids=window.input_ids[:1],
        token_type_ids=None if types is None else types[:1],
        positions=window.positions[:0],
        targets=window.targets[:0],
        words=window.words[:0],
    )


def length_groups(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices grouped by length, longest first, each group at most `max_tokens` with padding (or a
    single index)."""
    groups: list[list[int]] = []
    widest = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * widest <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
            widest = lengths[i]
    return groups


def split_outputs(outputs: NDArray[Any], windows: Sequence[Window]) -> list[NDArray[Any]]:
    """Scored outputs (N, L) of a batch as one array a window."""
    ends = np.cumsum([len(window.positions) for window in windows])
    return np.split(outputs, ends[:-1])
