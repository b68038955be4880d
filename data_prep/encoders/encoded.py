"""Token ids of a batch of texts, and what a way to encode looks like."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Texts as ids, one text after the other, without special tokens."""

    tokens: NDArray[
        Any
    ]  # (sum of lengths,) uint16 if the vocabulary has at most 65,536, else uint32
    lengths: Int64  # (n,) tokens of each text

    def of(self, text: int) -> NDArray[Any]:
        """The ids of one text. Slow for many: all lengths are summed."""
        start = int(self.lengths[:text].sum())
        return self.tokens[start : start + int(self.lengths[text])]


def in_pieces(text: bytes, size: int) -> list[bytes]:
    """A text cut in front of newlines into pieces of at most about `size` bytes, so that a huge one
    takes no more memory than others; one without newlines stays whole."""
    pieces, start = [], 0
    while len(text) - start > size:
        end = text.rfind(b"\n", start + 1, start + size)
        if end < 0:
            end = text.find(b"\n", start + size)
        if end < 0:
            break
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def as_one(parts: Sequence[Encoded]) -> Encoded:
    """Pieces of one text as that text."""
    tokens = np.concatenate([part.tokens for part in parts])
    return Encoded(tokens, np.array([len(tokens)], np.int64))


class Way(Protocol):
    """One way to encode for one tokenizer."""

    name: str

    def encode(self, texts: Sequence[str]) -> Encoded: ...


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smaller of the two dtypes that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def from_lists(ids: Iterable[Sequence[int]], dtype: np.dtype[Any]) -> Encoded:
    """Lists of ids, one a text, as arrays."""
    ids = list(ids)
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    tokens = np.fromiter(chain.from_iterable(ids), dtype, int(lengths.sum()))
    return Encoded(tokens, lengths)
