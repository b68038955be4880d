"""Counter-based masking: which tokens become targets is a function of (seed, epoch, source,
sample).

Independent of ranks, micro batches, workers and of what was masked before, and the same on every
machine: a splitmix64 hash (Steele, Lea and Flood 2014) of the key and the position in the sample
gives each token a draw. All units are one mechanism: the text of a sample is cut into words (unit
token: each token is one), words into spans, the spans are put in the order of their draws, and
their words are taken in that order, leaving out those that no longer fit the budget (as BERT's
whole-word masking does).

The budget of a sample is `round_down(share x its text tokens)`, at least one. It is never exceeded.
Unit token meets it exactly. Units word and span never mask a part of a word, so they may fall short
by fewer tokens than the shortest word left; only where every word is longer than the budget, the
first one drawn is masked up to it. Words of more than LONGEST_WORD tokens (addresses, sequences of
letters) count as several. Special tokens are never targets; words and spans end at them and at the
end of a segment.

A span is as many words as a geometric distribution on 1..max_span_words says (SpanBERT, Joshi et
al. 2020), fewer at the end of a segment and where the budget ends. Unlike there, spans never
overlap: a text is cut into spans from its beginning, so that its middle and its end are targets as
often. Its first word is one in 0.31 instead of 0.30 of the cases (512 tokens), because the span
that meets the budget gives its first words.

What replaces a target is drawn for each token, as published for BERT and its whole words, and once
for a span, as published for SpanBERT; random tokens are drawn from all that are not special.
"""

# B samples  T tokens per sample  N = B x T  W words  S spans  K targets of the batch

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.shards import ranges
from data_prep.word_starts import WordBounds
from pretrain.config import Objective

Int64 = NDArray[np.int64]
Integers = NDArray[np.signedinteger[Any]]
UInt64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ACTION, LENGTH = np.uint64(0x5851F42D4C957F2D), np.uint64(0x14057B7EF767814F)  # separate the draws
LONGEST_WORD = 16  # tokens


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of the token ids."""

    mask_id: int
    is_special: Flags  # (V,) never a target, nor what replaces one
    replacements: Int64  # the ids that random replacements are drawn from
    bounds: WordBounds  # (V,)


@dataclass(frozen=True)
class Masked:
    """A batch of samples with its targets."""

    tokens: Int64  # (B, T), targets replaced
    positions: Int64  # (K,) into the flattened batch, ascending
    targets: Int64  # (K,) the original tokens


@dataclass(frozen=True)
class Words:
    """The words of a batch, in the order of the text."""

    starts: Int64  # (W,) positions in the flattened batch
    sizes: Int64  # (W,) tokens
    is_first: Flags  # (W,) no word of the same stretch of text stands before it


def splitmix64(state: UInt64) -> UInt64:
    """The output function of splitmix64, vectorised over uint64."""
    z = state + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64 = z ^ (z >> np.uint64(31))
    return mixed


def as_share(draws: UInt64) -> NDArray[np.float64]:
    """Draws as numbers in [0, 1)."""
    shares: NDArray[np.float64] = (draws >> np.uint64(11)) / float(1 << 53)
    return shares


def sample_keys(seed: int, epoch: Integers, source: Integers, sample: Integers) -> UInt64:
    """One uint64 key a sample, (B,)."""
    with np.errstate(over="ignore"):
        key = splitmix64(np.full(len(sample), seed, np.uint64))
        for part in (epoch, source, sample):
            key = splitmix64(key ^ part.astype(np.uint64))
    return key


def share_at(objective: Objective, progress: float) -> float:
    """The share of text tokens to mask when `progress` in [0, 1] of the run is done: a straight
    line, as in "Dynamic Masking Rate Schedules for MLM Pretraining" (Ankner et al. 2023)."""
    start, end = objective.mask_share, objective.mask_share_end
    return start if end is None else start + (end - start) * progress


def most_targets(objective: Objective, sequence_length: int) -> int:
    """Targets of a sample at most, whatever the progress."""
    share = max(objective.mask_share, objective.mask_share_end or 0.0)
    return max(1, int(share * sequence_length))


def mask(
    tokens: NDArray[np.integer[Any]],
    lengths: Int64,
    keys: UInt64,
    share: float,
    objective: Objective,
    vocabulary: Vocabulary,
) -> Masked:
    """Choose targets of (B, T) tokens and replace them; `lengths` are those of all segments,
    padding included, `keys` (B,) from `sample_keys`."""
    flat = tokens.reshape(-1).astype(np.int64)  # (N,), a copy
    with np.errstate(over="ignore"):
        counter = np.arange(tokens.shape[1], dtype=np.uint64) * GOLDEN
        draws = splitmix64(keys[:, None] + counter).reshape(-1)  # (N,)
    is_text = ~vocabulary.is_special[flat]
    words = words_of(flat, is_text, lengths, objective.unit != "token", vocabulary.bounds)
    is_span = objective.unit == "span"
    heads = spans_of(words, draws, objective) if is_span else words.starts  # (W,)
    num_text = is_text.reshape(tokens.shape).sum(axis=1)
    budget = np.where(num_text > 0, np.maximum((share * num_text).astype(np.int64), 1), 0)
    taken = targets_of(words, draws[heads], budget, tokens.shape[1])  # (W,)
    positions = ranges(words.starts, taken)
    deciders = np.repeat(heads, taken) if is_span else positions
    targets = flat[positions]
    replace(flat, positions, deciders, draws, objective, vocabulary)
    return Masked(flat.reshape(tokens.shape), positions, targets)


def words_of(
    flat: Int64, is_text: Flags, lengths: Int64, are_joined: bool, bounds: WordBounds
) -> Words:
    """The words of a flattened batch; each token is one unless they `are_joined`."""
    goes_on = np.zeros(len(flat), bool)
    goes_on[1:] = is_text[:-1]
    goes_on[np.cumsum(lengths) - lengths] = False
    is_first = is_text & ~goes_on  # of a stretch of text
    begins = is_text
    if are_joined:
        begins = bounds.begins[flat]
        begins[1:] |= bounds.ends[flat[:-1]]
        begins = (begins & is_text) | is_first
        places = np.arange(len(flat))
        inside = places - np.maximum.accumulate(np.where(begins, places, 0))
        begins |= is_text & (inside % LONGEST_WORD == 0)
    starts = np.flatnonzero(begins)
    text_before = np.concatenate([[0], np.cumsum(is_text)])
    sizes = np.diff(text_before[np.append(starts, len(flat))])
    return Words(starts, sizes, is_first[starts])


def spans_of(words: Words, draws: UInt64, objective: Objective) -> Int64:
    """(W,) the position at which each word's span begins."""
    count = len(words.starts)
    numbers = np.arange(count)
    chance = as_share(splitmix64(draws[words.starts] ^ LENGTH))
    lengths = span_lengths(objective.mean_span_words, objective.max_span_words)
    follower = numbers + 1 + np.searchsorted(lengths, chance, side="right")  # if a span began here
    firsts = np.append(np.flatnonzero(words.is_first), count)
    stretch_ends = firsts[np.cumsum(words.is_first)]
    follower = np.append(np.where(follower < stretch_ends, follower, count), count)
    # Follow the chains of spans from the first words, twice as far each time.
    begins = np.append(words.is_first, False)
    while (follower < count).any():
        begins[follower[begins]] = True
        follower = follower[follower]
    heads = np.maximum.accumulate(np.where(begins[:count], numbers, 0))
    return words.starts[heads]


@lru_cache
def span_lengths(mean: float, most: int) -> NDArray[np.float64]:
    """(most - 1,) the shares of spans of at most 1, 2, ... words: geometric on 1..most, with this
    mean. SpanBERT's success probability of 0.2 and longest span of 10 give its mean of 3.8."""
    lengths = np.arange(1, most + 1)
    low, high = 0.0, 1.0
    for _ in range(60):
        success = (low + high) / 2
        shares = (1 - success) ** (lengths - 1)
        shares /= shares.sum()
        low, high = (success, high) if (shares * lengths).sum() > mean else (low, success)
    return np.cumsum(shares)[:-1]


def targets_of(words: Words, draws: UInt64, budget: Int64, length: int) -> Int64:
    """(W,) how many tokens of each word become targets, from the draw of each word's span."""
    shape = len(budget), length
    bits = np.uint64(length.bit_length())
    order = np.full(shape, np.iinfo(np.uint64).max)
    ranks = (draws >> bits << bits) + (words.starts % length).astype(np.uint64)
    order.reshape(-1)[words.starts] = ranks  # by draw, within a span by position
    sequence = np.argsort(order, axis=1)
    sizes = np.zeros(shape, np.int64)
    sizes.reshape(-1)[words.starts] = words.sizes
    sizes = np.take_along_axis(sizes, sequence, axis=1)
    shortest = np.where(sizes > 0, sizes, length).min(axis=1)
    sizes[:, 0] = np.where(shortest > budget, budget, sizes[:, 0])
    taken = np.zeros(shape, np.int64)
    np.put_along_axis(taken, sequence, np.where(fitting(sizes, budget), sizes, 0), axis=1)
    return taken.reshape(-1)[words.starts]


def fitting(sizes: Int64, budget: Int64) -> Flags:
    """Which of the words (B, W), taken in order, fit into the budgets (B,): a word that exceeds
    what is left is passed over. Size 0 stands for no word."""
    taken = np.zeros(sizes.shape, bool)
    left = budget.copy()
    while True:
        candidates = np.where(~taken & (sizes <= left[:, None]), sizes, 0)
        sums = np.cumsum(candidates, axis=1)
        more = (candidates > 0) & (sums <= left[:, None])
        if not more.any():
            return taken
        taken |= more
        left -= np.where(more, sizes, 0).sum(axis=1)


def replace(
    flat: Int64,
    positions: Int64,
    deciders: Int64,
    draws: UInt64,
    objective: Objective,
    vocabulary: Vocabulary,
) -> None:
    """Put [MASK], a random token or the same one at each position, as the draw of the position in
    `deciders` says."""
    chance = as_share(splitmix64(draws[deciders] ^ ACTION))
    by_mask = objective.replace_by_mask
    is_random = (chance >= by_mask) & (chance < by_mask + objective.replace_by_random)
    places = positions[is_random]
    picks = splitmix64(splitmix64(draws[places] ^ ACTION))
    number = picks % np.uint64(len(vocabulary.replacements))
    flat[places] = vocabulary.replacements[number]
    flat[positions[chance < by_mask]] = vocabulary.mask_id
