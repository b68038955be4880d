"""Counter-based masking: exact counts, no special tokens, and nothing but the key decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.word_starts import WordBounds
from pretrain.config import Objective
from pretrain.masking import (
    LONGEST_WORD,
    Masked,
    UInt64,
    Vocabulary,
    mask,
    most_targets,
    sample_keys,
    share_at,
    span_lengths,
    spans_of,
    splitmix64,
    words_of,
)

MASK, SIZE = 4, 1000
CLS, SEP, PAD = 1, 2, 0
TOKEN, WORD, SPAN = (Objective(unit=unit) for unit in ("token", "word", "span"))  # type: ignore[arg-type]
# Tokens below 600 begin a word; the others go on.
BOUNDS = WordBounds(np.arange(SIZE) < 600, np.zeros(SIZE, bool))
VOCABULARY = Vocabulary(MASK, np.arange(SIZE) < 5, np.arange(5, SIZE), BOUNDS)


def keys_for(samples: list[int], seed: int = 1, epoch: int = 0, source: int = 0) -> UInt64:
    count = len(samples)
    return sample_keys(seed, np.full(count, epoch), np.full(count, source), np.array(samples))


def masked(
    tokens: NDArray[np.int64], keys: UInt64, objective: Objective = TOKEN, share: float = 0.3
) -> Masked:
    """Rows whose first token is the only beginning of a segment."""
    lengths = np.full(len(tokens), tokens.shape[1])
    return mask(tokens, lengths, keys, share, objective, VOCABULARY)


def rows(count: int, length: int = 64, seed: int = 0) -> NDArray[np.int64]:
    """Rows that begin with a special token and end in padding."""
    tokens = np.random.default_rng(seed).integers(5, SIZE, (count, length))
    tokens[:, 0], tokens[:, -4:] = CLS, PAD
    return tokens


def walked(row: list[int]) -> list[tuple[int, int]]:
    """First and last place plus one of each word, by a walk over the row."""
    words: list[tuple[int, int]] = []
    for place, token in enumerate(row):
        if token < 5:
            continue
        is_new = not words or words[-1][1] != place or token < 600
        if is_new or place - words[-1][0] == LONGEST_WORD:
            words.append((place, place + 1))
        else:
            words[-1] = (words[-1][0], place + 1)
    return words


def test_splitmix64_gives_the_published_sequence() -> None:
    """First outputs of Vigna's reference implementation for seed 1234567."""
    with np.errstate(over="ignore"):
        state = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        found = splitmix64(state)
    assert found.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_tokens_every_sample_masks_exactly_its_share(share: float) -> None:
    tokens = rows(7)
    result = masked(tokens, keys_for(list(range(7))), share=share)
    per_row = np.bincount(result.positions // 64, minlength=7)
    assert per_row.tolist() == [int(share * 59)] * 7  # 64 - 1 first - 4 padding
    assert np.array_equal(result.targets, tokens.reshape(-1)[result.positions])
    assert not np.isin(result.targets, range(5)).any()


@given(st.integers(0, 1 << 30), st.sampled_from([WORD, SPAN]), st.floats(0.02, 0.6))
def test_words_are_masked_whole_and_never_beyond_the_budget(
    seed: int, objective: Objective, share: float
) -> None:
    """What is left of the budget would not hold any of the words left."""
    tokens = rows(2, 40, seed)
    tokens[0, 9:30] = 700  # one word of 21 tokens
    tokens[1, 17:19] = SEP, CLS
    result = masked(tokens, keys_for([seed, seed + 1]), objective, share)
    is_target = np.zeros(tokens.size, bool)
    is_target[result.positions] = True
    assert (np.diff(result.positions) > 0).all()
    for row, flags in zip(tokens, is_target.reshape(tokens.shape), strict=True):
        words = walked(row.tolist())
        budget = max(1, int(share * sum(end - start for start, end in words)))
        shortest = min(end - start for start, end in words)
        if shortest > budget:
            assert flags.sum() == budget
            continue
        taken = [word for word in words if flags[slice(*word)].any()]
        assert all(flags[slice(*word)].all() for word in taken)
        left = budget - sum(end - start for start, end in taken)
        assert flags.sum() == budget - left
        assert left >= 0
        assert all(end - start > left for start, end in words if (start, end) not in taken)


def test_a_row_whose_words_are_all_too_long_masks_a_part_of_one() -> None:
    tokens = np.array([[CLS, *[700] * 8, SEP]])
    result = masked(tokens, keys_for([0]), WORD, share=0.3)
    assert result.positions.tolist() == [1, 2]


def test_spans_are_runs_of_words_and_end_with_the_segment() -> None:
    """Two words a segment: no span has more, though nothing special stands between them."""
    tokens = np.tile([10, 600, 11, 601], (500, 16))
    lengths = np.full(500 * 16, 4)
    result = mask(tokens, lengths, keys_for(list(range(500))), 0.3, SPAN, VOCABULARY)
    chosen = np.zeros(tokens.size, bool)
    chosen[result.positions] = True
    first, second = chosen.reshape(-1, 2, 2).all(axis=2).T
    # Spans of one word: about 20 %. Were segments no borders, halves would be chosen far more often
    # together with the segment before.
    assert 0.7 < (first & second).sum() / first.sum() < 0.9


def test_span_lengths_are_geometric() -> None:
    """Shares of SpanBERT: 0.2 x 0.8^(n - 1) over their sum up to 10, of mean 3.8."""
    shares = 0.2 * 0.8 ** np.arange(10)
    wanted = shares / shares.sum()
    assert np.allclose(np.diff(span_lengths(3.797, 10), prepend=0, append=1), wanted, atol=1e-4)
    tokens = np.full(200_000, 10)  # each token is a word
    words = words_of(tokens, tokens > 4, np.array([200_000]), True, BOUNDS)
    heads = np.unique(spans_of(words, keys_for([*range(200_000)]), SPAN))
    found = np.diff(heads)
    assert abs(found.mean() - 3.8) < 0.05
    assert np.allclose(np.bincount(found, minlength=11)[1:] / len(found), wanted, atol=0.006)


@pytest.mark.parametrize("objective", [TOKEN, WORD, SPAN])
def test_every_position_is_a_target_as_often(objective: Objective) -> None:
    tokens = np.tile(np.array([CLS, *[10, 600, 11] * 80, SEP]), (4000, 1))
    result = masked(tokens, keys_for(list(range(4000))), objective)
    shares = np.bincount(result.positions % 242, minlength=242)[1:-1] / 4000
    assert abs(shares.mean() - 0.3) < 1e-9  # 72 of 240 tokens
    # A span drawn last is cut at the budget, so the beginning of a text is a target more often.
    assert np.abs(shares[3:] - 0.3).max() < 5 * 0.0072  # the deviation of a binomial share
    assert np.abs(shares[:3] - 0.3).max() < 0.04


@pytest.mark.parametrize("objective", [TOKEN, WORD, SPAN])
def test_replacements_have_the_published_shares(objective: Objective) -> None:
    tokens = rows(3000)
    result = masked(tokens, keys_for(list(range(3000))), objective)
    now = result.tokens.reshape(-1)[result.positions]
    is_mask = now == MASK
    is_kept = now == result.targets
    assert abs(is_mask.mean() - 0.8) < 0.01
    assert abs(is_kept.mean() - 0.1) < 0.01
    random = now[~is_mask & ~is_kept]
    counts = np.bincount(random, minlength=SIZE)
    assert (counts[:5] == 0).all()
    expected = len(random) / 995
    chi_square = ((counts[5:] - expected) ** 2 / expected).sum()
    assert abs(chi_square - 994) < 5 * np.sqrt(2 * 994)  # uniform: mean 994, variance twice that


def test_a_span_is_replaced_as_one_and_a_word_token_by_token() -> None:
    tokens = np.tile(np.array([CLS, *[10, 600] * 30, SEP]), (2000, 1))
    for objective, limits in ((WORD, (0.6, 0.72)), (SPAN, (0.78, 0.82))):
        result = masked(tokens, keys_for(list(range(2000))), objective)
        is_mask = (result.tokens == MASK)[:, 1:-1].reshape(-1, 2)
        is_target = np.zeros(tokens.size, bool)
        is_target[result.positions] = True
        whole = is_target.reshape(tokens.shape)[:, 1:-1].reshape(-1, 2).all(axis=1)
        both = is_mask[whole].all(axis=1).mean()
        assert limits[0] < both < limits[1]  # 0.8 x 0.8 and 0.8


def test_all_mask() -> None:
    objective = replace_shares(1.0, 0.0)
    result = masked(rows(5), keys_for(list(range(5))), objective)
    assert (result.tokens.reshape(-1)[result.positions] == MASK).all()


def replace_shares(by_mask: float, by_random: float) -> Objective:
    return Objective(replace_by_mask=by_mask, replace_by_random=by_random)


def test_the_rate_falls_in_a_straight_line_below_a_fixed_bound() -> None:
    objective = Objective(mask_share=0.3, mask_share_end=0.15)
    assert [share_at(objective, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx(
        [0.3, 0.225, 0.15]
    )
    assert share_at(TOKEN, 0.7) == 0.3
    assert most_targets(objective, 512) == 153
    assert most_targets(Objective(mask_share=0.15, mask_share_end=0.3), 512) == 153
    assert most_targets(objective, 2) == 1


@pytest.mark.parametrize("objective", [TOKEN, WORD, SPAN])
def test_untouched_tokens_stay(objective: Objective) -> None:
    tokens = rows(3)
    result = masked(tokens, keys_for([0, 1, 2]), objective)
    others = np.setdiff1d(np.arange(tokens.size), result.positions)
    assert np.array_equal(result.tokens.reshape(-1)[others], tokens.reshape(-1)[others])
    assert tokens[0, 0] == CLS  # the input is not changed


@given(st.permutations(range(6)), st.sampled_from([TOKEN, WORD, SPAN]))
def test_order_and_company_do_not_matter(order: list[int], objective: Objective) -> None:
    tokens = rows(6)
    together = masked(tokens, keys_for(list(range(6))), objective)
    shuffled = masked(tokens[order], keys_for(order), objective)
    assert np.array_equal(shuffled.tokens, together.tokens[order])
    alone = masked(tokens[order[:1]], keys_for(order[:1]), objective)
    assert np.array_equal(alone.tokens, together.tokens[order[:1]])


def test_seed_epoch_source_and_sample_each_change_the_draw() -> None:
    tokens = rows(1)
    draws = {
        masked(tokens, keys).positions.tobytes()
        for keys in (
            keys_for([0]),
            keys_for([1]),
            keys_for([0], seed=2),
            keys_for([0], epoch=1),
            keys_for([0], source=1),
        )
    }
    assert len(draws) == 5


@pytest.mark.parametrize("objective", [TOKEN, WORD, SPAN])
def test_epochs_are_independent(objective: Objective) -> None:
    """A target of one epoch is one of the next as often as any token is."""
    tokens = np.tile(np.array([CLS, *[10, 600, 11] * 20, SEP]), (2000, 1))
    samples = list(range(2000))
    flags = []
    for epoch in (0, 1):
        result = masked(tokens, keys_for(samples, epoch=epoch), objective)
        chosen = np.zeros(tokens.size, bool)
        chosen[result.positions] = True
        flags.append(chosen)
    again = flags[1][flags[0]].mean()
    assert abs(again - 0.3) < 0.01


def test_short_and_empty_rows() -> None:
    tokens = np.array([[CLS, 9, SEP, PAD], [PAD] * 4])
    for objective in (TOKEN, WORD, SPAN):
        result = masked(tokens, keys_for([0, 1]), objective)
        assert result.positions.tolist() == [1]  # at least one target where there is text
