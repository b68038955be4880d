"""Shuffles that are functions: where the i-th draw of an epoch falls, without an index.

`shuffled` permutes range(n) for a key so that a reader goes forward on disk. Samples are taken in
blocks of 1,024 neighbours. Blocks come in a random order; 64 blocks or more, a window, are open at
a time, and their samples are drawn in random order. So 65,536 draws touch 64 pieces of a file, each
wholly. A source of at most a window is shuffled as a whole.

Both permutations are Feistel networks on an even number of bits, repeated while the result is
outside the range (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
The last block may be short: the whole is then a permutation of the next multiple of 1,024, walked
in the same way.
"""

import numpy as np
from numpy.typing import NDArray

FEISTEL_ROUNDS = 6
BLOCK = 1 << 10  # samples; of 512 tokens in 16 bits: 1 MiB
WINDOW = 1 << 16  # samples
WINDOW_KEY = np.uint64(0x9E3779B97F4A7C15)

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


def shuffled(position: Int64, size: int, keys: UInt64) -> Int64:
    """The sample of range(size) at each position of the order with each key."""
    if size <= WINDOW:
        return permute(position, size, keys)
    result = by_windows(position, size, keys)
    outside = np.flatnonzero(result >= size)
    while len(outside):
        result[outside] = by_windows(result[outside], size, keys[outside])
        outside = outside[result[outside] >= size]
    return result


def by_windows(position: Int64, size: int, keys: UInt64) -> Int64:
    """A permutation of the positions in all blocks, the last one made full."""
    num_blocks = -(-size // BLOCK)
    last = num_blocks * BLOCK // WINDOW - 1  # this window takes what the others leave
    window = np.minimum(position // WINDOW, last)
    place = position - window * WINDOW
    within = mix(keys + (window.astype(np.uint64) + np.uint64(1)) * WINDOW_KEY)
    is_last = window == last
    place[~is_last] = permute(place[~is_last], WINDOW, within[~is_last])
    place[is_last] = permute(place[is_last], num_blocks * BLOCK - last * WINDOW, within[is_last])
    block, offset = np.divmod(place + window * WINDOW, BLOCK)
    result: Int64 = permute(block, num_blocks, keys) * BLOCK + offset
    return result


def permute(position: Int64, size: int, keys: UInt64) -> Int64:
    """A permutation of range(size) for each key, evaluated at the given positions."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    result = feistel(position.astype(np.uint64), half, keys)
    outside = np.flatnonzero(result >= size)
    while len(outside):  # follow the cycle back into the range: at most 4 rounds on average
        result[outside] = feistel(result[outside], half, keys[outside])
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)


def feistel(value: UInt64, half: int, keys: UInt64) -> UInt64:
    """A keyed permutation of the numbers below 4^half."""
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = value >> shift, value & mask
    for step in range(FEISTEL_ROUNDS):
        left, right = right, left ^ (mix(right + keys + np.uint64(step << 56)) & mask)
    return (left << shift) | right


def mix(value: UInt64) -> UInt64:
    """The finaliser of SplitMix64: every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64 = value ^ (value >> np.uint64(31))
    return mixed
