"""The order in which samples of several sources are seen: a pure function of the sample's number.

`sample_order` says for any range of global sample numbers which sample of which source stands
there, in which epoch of that source, without state and without building an index:

1. Which source. Sources hang in a Huffman tree of their weights. At each node, number k goes left
   if floor((k + 1) p + 1/2) > floor(k p + 1/2), p the left share: so after any k samples each
   child holds its share to within half a sample, and a source deep in the tree to within about
   one. Shares are integers over 2^31, which makes this exact for any k below 2^62.
2. Which sample. The i-th draw from a source of n samples is number i mod n of epoch i // n, put
   through a permutation of n keyed by (seed, source, epoch): a Feistel network on the next even
   number of bits, repeated until the result is below n.

Every sample of a source is seen exactly once an epoch. Any rank computes its own part.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field, model_validator

from runtime.config import PositiveFloat
from runtime.errors import DataError, RecipeError
from runtime.recipe import RecipeTable

SHARE_BITS = 31
FEISTEL_ROUNDS = 6

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


class Mixture(RecipeTable):
    """What share of the training tokens each source gets."""

    strategy: Literal["proportional", "fixed", "temperature"] = "proportional"  # by size of source
    weights: dict[str, PositiveFloat] = Field(default={})  # fixed: one a source, any scale
    temperature: float = Field(default=0.7, gt=0.0, le=1.0)  # temperature: weight = size^this

    @model_validator(mode="after")
    def weights_fit_strategy(self) -> Self:
        if (self.strategy == "fixed") != bool(self.weights):
            raise ValueError(
                '`weights` and strategy = "fixed" go together '
                f"(given: strategy {self.strategy!r}, weights {self.weights})"
            )
        if "temperature" in self.model_fields_set and self.strategy != "temperature":
            raise ValueError(
                f'`temperature` needs strategy = "temperature" (given: {self.strategy!r})'
            )
        return self


@dataclass(frozen=True)
class Order:
    """Where the samples with consecutive global numbers come from."""

    source: NDArray[np.int16]  # (count,) number of the source
    sample: Int64  # (count,) sample within the source
    epoch: Int64  # (count,) how often the source was used up before


def source_weights(mixture: Mixture, num_tokens: Mapping[str, int]) -> dict[str, float]:
    """The weight of each source, summing to 1. `num_tokens` are those it has for training.

    Raises RecipeError for a source without a weight, DataError for a weighted source without text.
    """
    if mixture.strategy == "fixed":
        missing = sorted(set(num_tokens) - set(mixture.weights))
        unknown = sorted(set(mixture.weights) - set(num_tokens))
        if missing or unknown:
            raise RecipeError(
                f"mixture.weights must name every source once; missing: {missing or 'none'}, "
                f"unknown: {unknown or 'none'}"
            )
        raw = {name: float(mixture.weights[name]) for name in num_tokens}
    else:
        power = mixture.temperature if mixture.strategy == "temperature" else 1.0
        raw = {name: float(size) ** power if size else 0.0 for name, size in num_tokens.items()}
    empty = [name for name, weight in raw.items() if weight and not num_tokens[name]]
    if empty:
        raise DataError(
            f"sources {', '.join(empty)} have a weight but no training samples; "
            "remove them from mixture.weights and [sources], or check their manifest counts"
        )
    total = sum(raw.values())
    if not total:
        raise DataError("no source has a training sample; see the counts in data/manifest.json")
    return {name: weight / total for name, weight in raw.items()}


def sample_order(
    counts: Sequence[int], weights: Sequence[float], seed: int, start: int, count: int
) -> Order:
    """Sources, samples and epochs of the global sample numbers `start` to `start + count`.

    `counts` are the samples of each source, `weights` their shares (any scale; 0 leaves one out).
    The cost depends on `count` alone.
    """
    if len(counts) != len(weights) or not any(weight > 0 for weight in weights):
        raise ValueError(f"{len(counts)} counts and weights {list(weights)} do not fit")
    for number, (num_samples, weight) in enumerate(zip(counts, weights, strict=True)):
        if weight < 0 or (weight > 0 and num_samples < 1):
            raise ValueError(f"source {number} has weight {weight} and {num_samples} samples")
    source = np.empty(count, np.int16)
    draw = np.empty(count, np.int64)  # how many samples the source gave before this one
    numbers = np.arange(start, start + count, dtype=np.int64)
    pending = [(weight_tree(weights), numbers, np.arange(count, dtype=np.int64))]
    while pending:
        node, index, place = pending.pop()
        if isinstance(node, int):
            source[place] = node
            draw[place] = index
            continue
        share, left, right = node
        before = taken(index, share)
        is_left = taken(index + 1, share) > before
        pending.append((left, before[is_left], place[is_left]))
        pending.append((right, (index - before)[~is_left], place[~is_left]))
    epoch, sample = np.divmod(draw, np.asarray(counts, np.int64)[source])
    for number, num_samples in enumerate(counts):
        mine = np.flatnonzero(source == number)
        if len(mine):
            keys = epoch_keys(seed, number, epoch[mine])
            sample[mine] = permute(sample[mine], num_samples, keys)
    return Order(source, sample, epoch)


# A source's number, or (share of the left child over 2^31, left child, right child).
Tree = int | tuple[int, "Tree", "Tree"]


def weight_tree(weights: Sequence[float]) -> Tree:
    """The Huffman tree of the sources with a weight: heavy sources near the root."""
    heap: list[tuple[float, int, Tree]] = [
        (float(weight), number, number) for number, weight in enumerate(weights) if weight > 0
    ]
    heapq.heapify(heap)
    while len(heap) > 1:
        light, light_key, light_tree = heapq.heappop(heap)
        heavy, heavy_key, heavy_tree = heapq.heappop(heap)
        total = light + heavy
        share = round(heavy / total * (1 << SHARE_BITS))
        key = len(weights) + min(light_key, heavy_key)
        heapq.heappush(heap, (total, key, (share, heavy_tree, light_tree)))
    return heap[0][2]


def taken(index: Int64, share: int) -> Int64:
    """floor(index * share / 2^31 + 1/2), exactly: how many of the first `index` went left."""
    high, low = index >> SHARE_BITS, index & ((1 << SHARE_BITS) - 1)
    return high * share + ((low * share + (1 << (SHARE_BITS - 1))) >> SHARE_BITS)


def epoch_keys(seed: int, source: int, epoch: Int64) -> UInt64:
    """One key for each draw, from seed, source and epoch."""
    start = xxhash.xxh3_64_intdigest(f"textmill order {seed} {source}".encode())
    return mix(epoch.astype(np.uint64) + np.uint64(start))


def mix(value: UInt64) -> UInt64:
    """The finaliser of SplitMix64: every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


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
