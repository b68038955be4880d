"""Ids of words by a dictionary that is filled as words are met.

Most words of a text were met before. A batch's words are made distinct by pyarrow, only the
distinct ones are looked up, only new ones are encoded, and pyarrow puts the ids of all in order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.encoders.encoded import Encoded, Int64

MAX_WORDS = 1 << 17  # remembered; then the dictionary is filled anew
MAX_WORD_BYTES = 64  # longer ones are seldom met again
POOL = pa.system_memory_pool()  # the default one keeps 30 MB that it does not use


class WordDictionary:
    """Maps words, as bytes, to ids."""

    def __init__(
        self,
        encode: Callable[[list[bytes]], Encoded],
        dtype: np.dtype[Any],
        given: Mapping[bytes, int] | None = None,
    ) -> None:
        """`encode` is asked for new words; `given` are words known to be one token."""
        self.encode = encode
        self.dtype = dtype
        tokens = np.fromiter((given or {}).values(), dtype)
        self.given = dict(
            zip(given or {}, pieces(tokens, np.ones(len(tokens), np.int64)), strict=True)
        )
        self.known = dict(self.given)  # word -> the bytes of its ids

    def ids(self, data: bytes, offsets: NDArray[np.int32]) -> Encoded:
        """Ids of the words data[offsets[i] : offsets[i + 1]]; lengths are tokens of each word."""
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        words = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
        words = pc.dictionary_encode(words, memory_pool=POOL)
        distinct = pa.array(self.find(words.dictionary.to_pylist()), pa.binary(), memory_pool=POOL)
        found = pc.take(distinct, words.indices, memory_pool=POOL)
        _, ends, tokens = found.buffers()
        if not len(found):
            return Encoded(np.zeros(0, self.dtype), np.zeros(0, np.int64))
        places = np.frombuffer(ends, np.int32)[: len(found) + 1] // self.dtype.itemsize
        ids = np.frombuffer(tokens, self.dtype)[places[0] : places[-1]]
        return Encoded(ids, np.diff(places).astype(np.int64))

    def find(self, words: list[bytes]) -> list[bytes]:
        """The ids of distinct words, each as bytes."""
        found = list(map(self.known.get, words))
        if None not in found:
            return found  # type: ignore[return-value]
        new = [word for word, ids in zip(words, found, strict=True) if ids is None]
        encoded = self.encode(new)
        fresh = pieces(encoded.tokens.astype(self.dtype, copy=False), encoded.lengths)
        if len(self.known) + len(new) > MAX_WORDS:
            self.known = dict(self.given)
        self.known.update(
            (word, ids) for word, ids in zip(new, fresh, strict=True) if len(word) <= MAX_WORD_BYTES
        )
        others = iter(fresh)
        return [next(others) if ids is None else ids for ids in found]


def pieces(tokens: NDArray[Any], lengths: Int64) -> list[bytes]:
    """The bytes of consecutive parts of an array."""
    content = tokens.tobytes()
    ends = (np.cumsum(lengths) * tokens.itemsize).tolist()
    starts = [0, *ends[:-1]]
    return [content[start:end] for start, end in zip(starts, ends, strict=True)]


def per_text(encoded: Encoded, first_words: Int64) -> Encoded:
    """From tokens of each word to tokens of each text; texts begin at these words."""
    before = np.concatenate([[0], np.cumsum(encoded.lengths)])
    bounds = before[np.append(first_words, len(encoded.lengths))]
    return Encoded(encoded.tokens, np.diff(bounds))


def cut(encoded: Encoded, is_first: NDArray[np.bool_], num_words: int) -> Encoded | None:
    """One text's tokens as words, a word beginning at each `is_first`; None if that does not give
    this number of words."""
    starts = np.flatnonzero(is_first)
    if len(starts) != num_words or (num_words and starts[0] != 0):
        return None
    return Encoded(encoded.tokens, np.diff(np.append(starts, len(encoded.tokens))))


def characters_beyond_ascii(data: NDArray[np.uint8]) -> tuple[Int64, Int64, Int64]:
    """Place, number of bytes and code point of each in UTF-8 text that ends in an ASCII byte."""
    places = np.flatnonzero(data >= 0xC0)
    lead = data[places]
    sizes = 2 + (lead >= 0xE0).astype(np.int64) + (lead >= 0xF0)
    codes = (lead & (0x7F >> sizes).astype(np.uint8)).astype(np.int64)
    for number in range(1, 4):
        longer = np.flatnonzero(sizes > number) if number > 1 else slice(None)
        following = data[places[longer] + number] & 0x3F
        codes[longer] = codes[longer] << 6 | following
    return places, sizes, codes


def interleave(first: Encoded, second: Encoded, is_first: NDArray[np.bool_]) -> Encoded:
    """Texts that were encoded apart, in their order again."""
    lengths = np.zeros(len(is_first), np.int64)
    lengths[is_first], lengths[~is_first] = first.lengths, second.lengths
    belongs = np.repeat(is_first, lengths)
    tokens = np.empty(len(belongs), first.tokens.dtype)
    tokens[belongs], tokens[~belongs] = first.tokens, second.tokens
    return Encoded(tokens, lengths)
