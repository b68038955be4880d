"""Signatures by which near copies are found: one-permutation MinHash of word n-grams.

    words       of single-spaced UTF-8, hashed eight bytes at a time (64 bits); a Han or kana
                character is a word of its own, as in `data_prep/words.py`
    n-grams     a polynomial of n word hashes; a text of fewer words is one n-gram
    signature   the high bits of an n-gram's hash choose its bin; the least of the low 32 bits stays
                in each (Li, Owen, Zhang 2012, "One Permutation Hashing"). Of these 16 bits are kept
                (b-bit minwise, Li and Koenig 2010), EMPTY where a bin has none. The estimate of the
                Jaccard similarity is the share of equal bins among those that are not both empty:
                nearly exact for short texts, deviation sqrt(J (1 - J) / bins) for long ones.
    bands       hashes of some bins each; texts that share one are candidates. An empty bin takes
                the value of another for this, the first in a fixed random order of its own that is
                not empty ("optimal densification", Shrivastava 2017).

All of it in numpy over batches: one pass over the bytes, no Python object a word.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import xxhash
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
U16 = NDArray[np.uint16]

EMPTY = 0xFFFF
NO_VALUE = 0xFFFF_FFFF  # an empty bin while the least values are looked for
RECALL = 0.99  # of the pairs just at the threshold, the share whose bands meet
LONG_WORD_BYTES = 64  # longer ones are hashed one by one
PIECE_BYTES = 1 << 20  # of one text hashed at once: bounds memory; n-grams across are left out
SPARSE_BINS = 64  # texts with fewer bins in use are densified by the other of two equal ways

FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)
MIXER = np.uint64(0xD6E8_FEB8_6659_FD93)  # of the rrxmrrxmsx family by Pelle Evensen
HALF = np.uint64(32)
MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)  # first bytes of eight


def bands_for(threshold: float, bins: int) -> tuple[int, int]:
    """Number of bands and bins of each: the longest bands, so the fewest false candidates, of which
    the bins give enough that a pair at the threshold is found with RECALL."""
    for rows in range(bins, 1, -1):
        share = threshold**rows  # of the pairs at the threshold that agree in one band
        bands = 1.0 if share == 1 else np.log(1 - RECALL) / np.log1p(-max(share, 1e-12))
        if np.ceil(bands) * rows <= bins:
            return int(np.ceil(bands)), rows
    return bins, 1


def signatures(texts: Sequence[bytes], ngram: int, bins: int) -> U32:
    """The least value of each bin, (texts, bins), NO_VALUE where there is none. The texts are
    single-spaced UTF-8 without NUL."""
    pieces: list[bytes] = []
    owners: list[int] = []
    for number, text in enumerate(texts):
        for start in range(0, max(len(text), 1), PIECE_BYTES):
            pieces.append(text[start : start + PIECE_BYTES])
            owners.append(number)
    least = np.full(len(texts) * bins, NO_VALUE, np.uint32)
    shift = np.uint64(64 - bins.bit_length() + 1)
    for first, last in groups([len(piece) for piece in pieces]):
        hashes, counts = word_hashes(pieces[first:last])
        found, documents = ngrams(hashes, counts, ngram)
        place = np.asarray(owners[first:last])[documents] * bins + (found >> shift).astype(np.int64)
        np.minimum.at(least, place, found.astype(np.uint32))
    return least.reshape(len(texts), bins)


def groups(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive pieces of about PIECE_BYTES together."""
    found, first, held = [], 0, 0
    for number, size in enumerate(sizes):
        held += size
        if held >= PIECE_BYTES:
            found.append((first, number + 1))
            first, held = number + 1, 0
    if first < len(sizes):
        found.append((first, len(sizes)))
    return found


def word_hashes(texts: Sequence[bytes]) -> tuple[U64, NDArray[np.int64]]:
    """Hashes of the words of all texts, and how many each text has."""
    data = b"\0".join(texts)
    padded = np.frombuffer(data + bytes(LONG_WORD_BYTES + 8), np.uint8)
    array = padded[: len(data) + 1]
    in_word = (array != 0x20) & (array != 0)
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    if not data.isascii():
        begins |= character_words(array) & in_word
    ends = ~in_word
    ends[1:] |= begins[1:]
    ends[1:] &= in_word[:-1]
    ends[0] = False
    starts = np.flatnonzero(begins)
    lengths = np.flatnonzero(ends) - starts
    limits = np.cumsum([len(text) + 1 for text in texts])
    counts = np.diff(np.searchsorted(starts, limits), prepend=0)
    return hash_spans(data, padded, starts, lengths), counts


def character_words(array: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a word begins at, or after, a character that is a word of its own: the ranges of
    `words.UNSPACED` by their UTF-8."""
    begins = np.zeros(len(array) + 4, bool)
    lead = np.flatnonzero((array >= 0xE3) & (array <= 0xF0))
    code = lead_code(array, lead)
    three = lead[
        (code >= 0xE38180) & (code <= 0xE383BF)  # kana
        | (code >= 0xE39080) & (code <= 0xE4B6BF)  # Han, extension A
        | (code >= 0xE4B880) & (code <= 0xE9BFBF)  # Han
        | (code >= 0xEFA480) & (code <= 0xEFABBF)  # Han, compatibility
    ]
    four = lead[(code >= 0xF0A080) & (code <= 0xF0BFBF)]  # Han, extensions B and up
    for places, width in ((three, 3), (four, 4)):
        begins[places] = begins[places + width] = True
    return begins[: len(array)]


def lead_code(array: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """Three bytes from each place as one number; the last character of all may be cut."""
    places = np.minimum(places, max(len(array) - 3, 0))
    code = array[places].astype(np.int32) << 16
    code |= array[places + 1].astype(np.int32) << 8
    return np.asarray(code | array[places + 2])


def hash_spans(
    data: bytes, padded: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> U64:
    """64-bit hashes of parts of `data`, which `padded` holds with zeros behind."""
    eights = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))  # eight bytes from each
    hashes = (eights[starts] & MASKS[np.minimum(lengths, 8)]) * FACTOR
    hashes ^= hashes >> HALF
    rest = np.flatnonzero(lengths > 8)
    offset = 8
    while len(rest) and offset < LONG_WORD_BYTES:
        more = eights[starts[rest] + offset] & MASKS[np.minimum(lengths[rest] - offset, 8)]
        mixed = (hashes[rest] + more) * FACTOR
        hashes[rest] = mixed ^ (mixed >> HALF)
        offset += 8
        rest = rest[lengths[rest] > offset]
    for place in rest.tolist():
        word = data[starts[place] : starts[place] + lengths[place]]
        hashes[place] = xxhash.xxh3_64_intdigest(word)
    return np.asarray(hashes)


def ngrams(hashes: U64, counts: NDArray[np.int64], size: int) -> tuple[U64, NDArray[np.int64]]:
    """Hashes of the n-grams of all texts, and the number of the text of each."""
    ends = np.cumsum(counts)
    whole = np.maximum(len(hashes) - size + 1, 0)
    rolled = hashes[:whole].copy()
    for place in range(1, size):
        rolled *= FACTOR
        rolled += hashes[place : place + whole]
    owner = np.repeat(np.arange(len(counts)), counts)
    inside = np.flatnonzero(owner[:whole] == owner[size - 1 :])
    short = np.flatnonzero((counts > 0) & (counts < size))
    alone = hashes[ends[short] - counts[short]]
    for place in range(1, size):
        there = place < counts[short]
        alone *= FACTOR
        alone[there] += hashes[(ends[short] - counts[short])[there] + place]
    found = np.concatenate([rolled[inside], alone ^ FACTOR])
    found ^= found >> HALF
    found *= MIXER
    found ^= found >> HALF
    found *= MIXER
    found ^= found >> np.uint64(28)
    return found, np.concatenate([owner[inside], short])


def stored(least: U32) -> U16:
    """Signatures as they are kept: 16 bits of the least values, EMPTY for none."""
    short = np.minimum(least.astype(np.uint16), np.uint16(EMPTY - 1))
    return np.where(least == NO_VALUE, np.uint16(EMPTY), short)


def estimate(first: U16, second: U16) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs of stored signatures, (pairs, bins) each."""
    some = (first != EMPTY) | (second != EMPTY)
    equal = (first == second) & some
    return np.asarray(equal.sum(axis=1) / np.maximum(some.sum(axis=1), 1))


def band_hashes(least: U32, bands: int, rows: int) -> U64:
    """Hashes of the bands, (texts, bands). Texts without any value must not be among them."""
    dense = densified(least, bands * rows).reshape(len(least), bands, rows)
    hashes = np.tile(np.arange(1, bands + 1, dtype=np.uint64) * MIXER, (len(least), 1))
    for row in range(rows):
        hashes ^= dense[:, :, row]
        hashes *= FACTOR
        hashes ^= hashes >> HALF
    return np.asarray(hashes * MIXER)


def densified(least: U32, used: int) -> U32:
    """The first `used` bins, the empty ones filled from bins that are not."""
    dense = least[:, :used].copy()
    is_empty = least == NO_VALUE
    num_filled = (~is_empty).sum(axis=1)
    turn = probes(least.shape[1])[:used]
    sparse = np.flatnonzero(num_filled < SPARSE_BINS)
    if len(sparse):
        # For each bin the non-empty one that comes first in its order, over non-empty ones only.
        texts, filled = np.nonzero(~is_empty[sparse])
        rank = np.argsort(turn, axis=1).astype(np.uint16).T  # (bins, used): when a bin's turn is
        first = np.cumsum(num_filled[sparse]) - num_filled[sparse]
        soonest = np.minimum.reduceat(rank[filled], first, axis=0)
        dense[sparse] = least[sparse[:, None], turn[np.arange(used), soonest]]
    texts, bins = np.nonzero((dense == NO_VALUE) & (num_filled >= SPARSE_BINS)[:, None])
    attempt = 0
    while len(texts):
        values = least[texts, turn[bins, attempt]]
        dense[texts, bins] = values
        missing = values == NO_VALUE
        texts, bins = texts[missing], bins[missing]
        attempt += 1
    return dense


@cache
def probes(bins: int) -> NDArray[np.int64]:
    """For each bin, all bins in the order in which it borrows from them, itself first: fixed, since
    it is part of what a signature means."""
    keys = np.random.PCG64(bins).random_raw(bins * bins).reshape(bins, bins)
    keys[np.arange(bins), np.arange(bins)] = 0
    return np.argsort(keys, axis=1, kind="stable")
