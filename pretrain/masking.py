"""Counter-based masking: which tokens become targets is a function of (seed, epoch, source,
sample).

Independent of ranks, micro batches, workers and of what was masked before, and the same on every
machine: a splitmix64 hash (Steele, Lea and Flood 2014) of the key and the position gives each token
its rank in a draw without replacement. Every sample masks exactly `round_down(share x its text
tokens)`, at least one; classification, separator and padding tokens are never targets.
"""

# B samples  T tokens per sample  K targets of the batch

from dataclasses import dataclass

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Masked:
    """A batch of samples with its targets."""

    tokens: np.ndarray  # (B, T) int64, targets replaced
    positions: np.ndarray  # (K,) int64 into the flattened batch, ascending
    targets: np.ndarray  # (K,) int64, the original tokens


def splitmix64(state: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, vectorised over uint64."""
    z = state + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def sample_keys(seed: int, epoch: np.ndarray, source: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """One uint64 key a sample, (B,)."""
    with np.errstate(over="ignore"):
        key = splitmix64(np.full(len(sample), seed, np.uint64))
        for part in (epoch, source, sample):
            key = splitmix64(key ^ part.astype(np.uint64))
    return key


def mask(
    tokens: np.ndarray,
    keys: np.ndarray,
    share: float,
    replace_by_mask: float,
    replace_by_random: float,
    mask_id: int,
    special_ids: np.ndarray,
    vocab_size: int,
) -> Masked:
    """Choose targets of (B, T) tokens and replace them; `keys` (B,) from `sample_keys`."""
    num_samples, length = tokens.shape
    counter = np.arange(length, dtype=np.uint64)
    with np.errstate(over="ignore"):
        draw = splitmix64(keys[:, None] + counter * GOLDEN)  # (B, T)
        action = splitmix64(draw ^ np.uint64(0x5851F42D4C957F2D))
    is_text = ~np.isin(tokens, special_ids)
    wanted = np.floor(share * is_text.sum(axis=1)).astype(np.int64)
    wanted = np.where(is_text.any(axis=1), np.maximum(wanted, 1), 0)
    draw = np.where(is_text, draw, np.iinfo(np.uint64).max)
    # the wanted smallest draws of each row: all up to the wanted-th smallest
    sorted_draws = np.sort(draw, axis=1)
    limit = sorted_draws[np.arange(num_samples), np.maximum(wanted - 1, 0)]
    is_target = (draw <= limit[:, None]) & (wanted > 0)[:, None] & is_text
    flat = tokens.reshape(-1).astype(np.int64)
    positions = np.flatnonzero(is_target)
    targets = flat[positions]
    chance = (action.reshape(-1)[positions] >> np.uint64(11)) / float(1 << 53)
    words = np.setdiff1d(np.arange(vocab_size), special_ids)
    with np.errstate(over="ignore"):
        pick = splitmix64(action.reshape(-1)[positions]) % np.uint64(len(words))
    replaced = np.where(chance < replace_by_mask + replace_by_random, words[pick], targets)
    flat[positions] = np.where(chance < replace_by_mask, mask_id, replaced)
    return Masked(flat.reshape(num_samples, length), positions, targets)
