"""Counter-based masking: exact counts, no special tokens, and nothing but the key decides."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pretrain.masking import Masked, mask, sample_keys, splitmix64

SPECIAL = np.array([0, 1, 2, 3, 4])
MASK = 4


def keys_for(samples: list[int], seed: int = 1, epoch: int = 0, source: int = 0) -> np.ndarray:
    count = len(samples)
    return sample_keys(seed, np.full(count, epoch), np.full(count, source), np.array(samples))


def masked(tokens: np.ndarray, keys: np.ndarray, share: float = 0.3) -> Masked:
    return mask(tokens, keys, share, 0.8, 0.1, MASK, SPECIAL, vocab_size=1000)


def rows(count: int, length: int = 64) -> np.ndarray:
    """Rows that begin with a special token and end in padding."""
    tokens = np.random.default_rng(0).integers(5, 1000, (count, length))
    tokens[:, 0], tokens[:, -4:] = 1, 0
    return tokens


def test_splitmix64_gives_the_published_sequence() -> None:
    """First outputs of Vigna's reference implementation for seed 1234567."""
    with np.errstate(over="ignore"):
        state = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        found = splitmix64(state)
    assert found.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_every_sample_masks_exactly_its_share_of_text_tokens() -> None:
    tokens = rows(7)
    result = masked(tokens, keys_for(list(range(7))))
    per_row = np.bincount(result.positions // 64, minlength=7)
    assert per_row.tolist() == [int(0.3 * 59)] * 7  # 64 - 1 first - 4 padding
    assert np.array_equal(result.targets, tokens.reshape(-1)[result.positions])
    assert not np.isin(result.targets, SPECIAL).any()


def test_untouched_tokens_stay() -> None:
    tokens = rows(3)
    result = masked(tokens, keys_for([0, 1, 2]))
    others = np.setdiff1d(np.arange(tokens.size), result.positions)
    assert np.array_equal(result.tokens.reshape(-1)[others], tokens.reshape(-1)[others])
    assert tokens[0, 0] == 1  # the input is not changed


def test_replacements_have_the_published_shares() -> None:
    tokens = rows(2000)
    result = masked(tokens, keys_for(list(range(2000))))
    now = result.tokens.reshape(-1)[result.positions]
    is_mask = now == MASK
    is_kept = now == result.targets
    assert abs(is_mask.mean() - 0.8) < 0.01
    assert abs(is_kept.mean() - 0.1) < 0.01
    random = now[~is_mask & ~is_kept]
    assert not np.isin(random, SPECIAL).any()
    assert len(np.unique(random)) > 900  # of 995 words


@given(st.permutations(range(6)))
def test_order_and_company_do_not_matter(order: list[int]) -> None:
    tokens = rows(6)
    together = masked(tokens, keys_for(list(range(6))))
    shuffled = masked(tokens[order], keys_for(order))
    assert np.array_equal(shuffled.tokens, together.tokens[order])


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


def test_short_and_empty_rows() -> None:
    tokens = np.array([[1, 9, 2, 0], [0, 0, 0, 0]])
    result = masked(tokens, keys_for([0, 1]))
    assert result.positions.tolist() == [1]  # at least one target where there is text, else none
