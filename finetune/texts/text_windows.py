"""One text or a pair as model inputs of at most so many tokens, and their outputs as a row's.

A row has at least one window, also without text. Nothing is cut in silence: rows and tokens that
were cut, and rows that became several windows, are counted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.logits import log_softmax
from finetune.ner.windows import window_starts
from finetune.task import Encoded, Window
from finetune.texts.labelled_text import Columns, Row
from finetune.tokenizer import Tokenizer

Ids = NDArray[np.int32]
Floats = NDArray[np.float64]
HEAD_SHARE = 4  # one token of so many that stay is of the text's beginning, with "head_tail"


def encode(
    rows: Sequence[Row],
    tokenizer: Tokenizer,
    params: Columns,
    max_length: int,
    target: Callable[[Row], NDArray[Any]],
) -> Encoded:
    """Every row as one or more windows; `target` is what each of them should give, (1, ...)."""
    is_pair = params.text_pair_field is not None
    template = tokenizer.pair if is_pair else tokenizer.single
    capacity = max_length - template.num_special
    columns = [tokenizer.tokens([row.texts[i] for row in rows]) for i in range(1 + is_pair)]
    counts: Counter[str] = Counter()
    windows = []
    for i, parts in enumerate(zip(*columns, strict=True)):
        wanted = target(rows[i])
        for kept in fitted([part.ids for part in parts], capacity, params, counts):
            input_ids, types, _ = template.build(*kept)
            has_types = is_pair and any(template.text_types)
            place = np.zeros(1, dtype=np.int64)
            windows.append(Window(i, input_ids, types if has_types else None, place, wanted, place))
    return Encoded(windows, dict(counts))


def fitted(
    parts: list[Ids], capacity: int, params: Columns, counts: Counter[str]
) -> list[list[Ids]]:
    """The texts of each window of a row, together at most `capacity` tokens."""
    sizes = [len(part) for part in parts]
    counts["tokens"] += sum(sizes)
    if sum(sizes) <= capacity:
        return [parts]
    room = rooms(sizes, capacity)
    if params.long_texts == "windows":
        longest = int(np.argmax(sizes))
        starts = window_starts(sizes[longest], room[longest], params.window_overlap)
        counts["rows_in_windows"] += 1
        counts["windows_of_them"] += len(starts)
    else:
        longest, starts = -1, [0]
    cut = sum(
        size - kept for i, (size, kept) in enumerate(zip(sizes, room, strict=True)) if i != longest
    )
    if cut:
        counts["rows_cut"] += 1
        counts["tokens_cut"] += cut
    is_split = params.long_texts == "head_tail"
    return [
        [
            part[start : start + size] if i == longest else shortened(part, size, is_split)
            for i, (part, size) in enumerate(zip(parts, room, strict=True))
        ]
        for start in starts
    ]


def rooms(sizes: Sequence[int], capacity: int) -> list[int]:
    """How many tokens of each text fit: of a pair the longer one is cut, both if both are longer
    than half."""
    if len(sizes) == 1:
        return [min(sizes[0], capacity)]
    first, second = sizes
    half = capacity // 2
    if first <= capacity - half:
        return [first, min(second, capacity - first)]
    if second <= half:
        return [min(first, capacity - second), second]
    return [capacity - half, half]


def shortened(part: Ids, size: int, is_split: bool) -> Ids:
    """A text without its end, or without its middle."""
    if len(part) <= size:
        return part
    head = size // HEAD_SHARE if is_split else size
    return np.concatenate([part[:head], part[len(part) - (size - head) :]])


def stacked(logits: Sequence[NDArray[np.float32]], num_labels: int) -> Floats:
    """The single output of every window, (W, L)."""
    return np.concatenate([np.zeros((0, num_labels)), *logits]).astype(np.float64)


def averaged(values: Floats, encoded: Encoded, num_rows: int) -> Floats:
    """Values (W, L) of windows as means of their rows, (rows, L)."""
    rows = np.array([window.row for window in encoded.windows], dtype=np.int64)
    sums = np.zeros((num_rows, values.shape[1]))
    np.add.at(sums, rows, values)
    return np.asarray(sums / np.bincount(rows, minlength=num_rows)[:, None])


def class_probabilities(
    logits: Floats, encoded: Encoded, num_rows: int, temperature: float = 1.0
) -> Floats:
    """Of each class, (rows, L): the mean over a row's windows of their softmax."""
    return averaged(np.exp(log_softmax(logits / temperature)), encoded, num_rows)
