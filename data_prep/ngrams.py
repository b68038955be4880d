"""Find the n-grams of a fixed set of texts in other texts, exactly and fast.

Words are compared lower-cased, in Unicode form NFKC and split at punctuation, so that "5-HT," and
the tokenised "5 - HT ," are the same two words. Words that occur in no text of the set share the
number 0 and can match nothing. Windows of words get a polynomial hash, looked up in a table of
bits, then among the sorted hashes; at last the words themselves are compared: a hash collision is
never a match.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

PIECE_WORDS = 1 << 15  # of a document hashed at a time
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
INVERSE = pow(MULTIPLIER, -1, 1 << 64)
SLOTS_PER_HEAD = 16  # of the bit table: about one window in sixteen is looked up in vain
ASCII_PUNCTUATION = bytes(
    code if code > 127 or chr(code).isalnum() else ord(" ") for code in range(256)
)

Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]


def plain_words(words: Iterable[str]) -> list[str]:
    """Words as they are compared: mere punctuation is none, "state-of-the-art" is four."""
    text = " ".join(words)
    if not text.isascii():
        if not unicodedata.is_normalized("NFKC", text):
            text = unicodedata.normalize("NFKC", text)
        text = characters_of("PSZ").sub(" ", characters_of("C").sub("", text))
    # On bytes the translation of ASCII is ten times faster, and lone surrogates pass.
    content = text.lower().encode("utf-8", "surrogatepass").translate(ASCII_PUNCTUATION)
    return content.decode("utf-8", "surrogatepass").split()


@lru_cache(maxsize=2)
def characters_of(kinds: str) -> re.Pattern[str]:
    """The characters beyond ASCII whose Unicode category begins with one of these letters.

    P, S, Z: punctuation, symbols, separators; C: controls and what is invisible. Combining marks
    (M) belong to their words. Beyond the basic plane only pictographs: `re` has a fast table for
    the basic plane and tries everything else one by one.
    """
    # Private, unassigned and surrogate code points (Co, Cn, Cs) could be anything: words.
    chosen = "".join(
        chr(code) for code in range(0x80, 0x10000)
        if (kind := unicodedata.category(chr(code)))[0] in kinds and kind not in ("Co", "Cn", "Cs")
    )  # fmt: skip
    pictographs = "\U0001f000-\U0001faff" if "S" in kinds else ""
    return re.compile(f"[{chosen}{pictographs}]")


class NGrams:
    """The n-grams of texts, and which texts each one occurs in.

    A text of at least `ngram` words gives all its windows of that many words; a shorter one of at
    least `min_words` is one gram as a whole. Still shorter ones match only texts that consist of
    the very same words.
    """

    def __init__(self, texts: Iterable[Sequence[str]], ngram: int, min_words: int) -> None:
        self.min_words = min_words
        numbers, self.words, self.lengths = number_words(texts)
        self.names = ["?", *numbers]  # by number; 0 is any word of no text
        self.numbers = numbers
        # Results do not depend on these values: every match is compared word by word.
        self.values = np.random.default_rng(1).integers(
            1 << 64, size=len(numbers) + 1, dtype=np.uint64
        )
        self.powers = wrapping_powers(MULTIPLIER, PIECE_WORDS + ngram)
        self.inverses = wrapping_powers(INVERSE, PIECE_WORDS + ngram)
        starts, sizes, owners = windows_of(self.lengths, ngram)
        self.gram_starts, self.gram_sizes, self.first, self.owners = self.number_grams(
            starts, sizes, owners
        )
        self.index()

    def index(self) -> None:
        """Sorted hashes of the grams by length, the table of their beginnings, the whole texts."""
        searched = self.gram_sizes >= self.min_words
        self.by_size: dict[int, tuple[Hashes, Integers]] = {}
        for size in np.unique(self.gram_sizes[searched]).tolist():
            grams = np.flatnonzero(self.gram_sizes == size)
            hashes = self.hashes_at(self.gram_starts[grams], size)
            order = np.argsort(hashes, kind="stable")
            self.by_size[size] = hashes[order], grams[order]
        self.heads = np.unique(self.hashes_at(self.gram_starts[searched], self.min_words))
        bits = max(16, (SLOTS_PER_HEAD * max(len(self.heads), 1) - 1).bit_length())
        self.shift = np.uint64(64 - bits)
        self.may_begin = np.zeros(1 << bits, np.bool_)
        self.may_begin[self.heads >> self.shift] = True
        self.whole = {
            self.gram(int(number)).tobytes(): int(number) for number in np.flatnonzero(~searched)
        }

    def gram(self, number: int) -> NDArray[np.int32]:
        start = self.gram_starts[number]
        return self.words[start : start + self.gram_sizes[number]]

    def spell(self, number: int) -> list[str]:
        """The plain words of a gram."""
        return [self.names[word] for word in self.gram(number)]

    def hashes_at(self, starts: Integers, size: int) -> Hashes:
        """Hashes of windows of the set's own words: sum of value[k] x MULTIPLIER^k."""
        hashes = np.zeros(len(starts), np.uint64)
        for place in reversed(range(size)):
            hashes *= np.uint64(MULTIPLIER)
            hashes += self.values[self.words[starts + place]]
        return hashes

    def number_grams(
        self, starts: Integers, sizes: Integers, owners: Integers
    ) -> tuple[Integers, Integers, Integers, Integers]:
        """Equal windows become one gram: its start, size, and owners[first[i] : first[i + 1]]."""
        order = np.zeros(0, np.int64)
        is_new = np.zeros(0, np.bool_)
        for size in np.unique(sizes).tolist():
            members = np.flatnonzero(sizes == size)
            # Sorted by hash, then window by window: sorting by all words would be much slower.
            hashes = self.hashes_at(starts[members], size)
            members = members[np.argsort(hashes, kind="stable")]
            differs = np.ones(len(members), np.bool_)
            differs[1:] = False
            for place in range(size):
                column = self.words[starts[members] + place]
                differs[1:] |= column[1:] != column[:-1]
            order, is_new = np.append(order, members), np.append(is_new, differs)
        first = np.flatnonzero(is_new)
        chosen = order[first]
        return starts[chosen], sizes[chosen], np.append(first, len(order)), owners[order]

    def find(self, words: Sequence[str]) -> list[int]:
        """The numbers of the grams that occur in a text, in the order they occur."""
        plain = plain_words(words)
        numbers = np.fromiter(map(self.numbers.get, plain, repeat(0)), np.int32, len(plain))
        if len(numbers) < self.min_words:
            whole = self.whole.get(numbers.tobytes())
            return [] if whole is None else [whole]
        return self.find_numbered(numbers)

    def find_numbered(self, numbers: NDArray[np.int32]) -> list[int]:
        """The same of words as numbers (0: of no text); no text is found by being equal."""
        found: list[int] = []
        longest = max(self.by_size, default=0)
        for begin in range(0, len(numbers) - self.min_words + 1, PIECE_WORDS):
            # The last windows that begin here reach into the next piece.
            found += self.find_in(numbers[begin : begin + PIECE_WORDS + longest - 1])
        return found

    def find_in(self, numbers: NDArray[np.int32]) -> list[int]:
        sums = np.zeros(len(numbers) + 1, np.uint64)
        np.cumsum(self.values[numbers] * self.powers[: len(numbers)], out=sums[1:])
        num_windows = min(len(numbers) - self.min_words + 1, PIECE_WORDS)
        heads = sums[self.min_words : self.min_words + num_windows] - sums[:num_windows]
        heads *= self.inverses[:num_windows]
        places = np.flatnonzero(self.may_begin[heads >> self.shift])
        if len(places):
            rows = np.searchsorted(self.heads, heads[places])
            places = places[self.heads.take(rows, mode="clip") == heads[places]]
        if not len(places):
            return []
        found: list[tuple[int, int]] = []
        for size, (hashes, grams) in self.by_size.items():
            fitting = places[places + size <= len(numbers)]
            wanted = (sums[fitting + size] - sums[fitting]) * self.inverses[fitting]
            begins = np.searchsorted(hashes, wanted)
            ends = np.searchsorted(hashes, wanted, side="right")
            for i in np.flatnonzero(begins < ends).tolist():
                place = int(fitting[i])
                for gram in grams[begins[i] : ends[i]].tolist():
                    if np.array_equal(self.gram(gram), numbers[place : place + size]):
                        found.append((place, gram))
        return [gram for _, gram in sorted(found)]

    def texts_with(self, grams: Iterable[int]) -> list[int]:
        """The sorted numbers of the set's texts that hold any of these grams."""
        texts: set[int] = set()
        for gram in grams:
            texts.update(self.owners[self.first[gram] : self.first[gram + 1]].tolist())
        return sorted(texts)


def number_words(
    texts: Iterable[Sequence[str]],
) -> tuple[dict[str, int], NDArray[np.int32], Integers]:
    """Number the plain words of texts from 1; return them, all texts as numbers, their lengths."""
    numbers: dict[str, int] = {}
    flat = array("i")
    lengths = array("q")
    for text in texts:
        words = plain_words(text)
        flat.extend(numbers.setdefault(word, len(numbers) + 1) for word in words)
        lengths.append(len(words))
    return numbers, np.array(flat, np.int32), np.array(lengths, np.int64)


def windows_of(lengths: Integers, ngram: int) -> tuple[Integers, Integers, Integers]:
    """Where the grams of texts that lie one after another begin, their sizes and their texts."""
    begins = np.cumsum(lengths) - lengths
    counts = np.where(lengths > 0, np.maximum(lengths - ngram + 1, 1), 0)
    owners = np.repeat(np.arange(len(lengths)), counts)
    inside = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return begins[owners] + inside, np.minimum(lengths, ngram)[owners], owners


def wrapping_powers(factor: int, count: int) -> Hashes:
    """1, factor, factor^2... modulo 2^64."""
    factors = np.full(count, factor, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
