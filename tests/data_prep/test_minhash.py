"""Signatures: words as in words.py, n-grams, the estimate, and how often bands find a pair."""

import random

import numpy as np
import pytest

from data_prep import minhash
from data_prep.spacing import single_spaced
from data_prep.words import words_of

TEXTS = [
    "one two three four five six",
    "",
    "two",
    "数据 x数y模型,three",
    "ends in Han 数",
    "カナ and \U00020000\U0003fffd rare",
    "é" * 3 + " " + "w" * 8 + " " + "w" * 9 + " " + "w" * 64 + " " + "w" * 65 + " " + "x" * 500,
    "one two three",
    "last 据",
]


def jaccard(first: list[str], second: list[str], size: int) -> float:
    one, other = (
        {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}
        for words in (first, second)
    )
    return len(one & other) / len(one | other)


def signed(texts: list[str], size: int = 5, bins: int = 256) -> minhash.U32:
    return minhash.signatures(single_spaced(texts), size, bins)


@pytest.mark.parametrize("texts", [TEXTS, [t for t in TEXTS if t.isascii()], ["数"], ["a 据b"]])
def test_equal_words_have_equal_hashes(texts: list[str]) -> None:
    hashes, counts = minhash.word_hashes(single_spaced(texts))
    words = [words_of(text) for text in texts]
    assert counts.tolist() == [len(found) for found in words]
    flat = [word for found in words for word in found]
    pairs = set(zip(flat, hashes.tolist(), strict=True))
    assert len(pairs) == len(set(flat)) == len(set(hashes.tolist()))


def test_ngrams_depend_on_words_order_and_text_only() -> None:
    hashes, counts = minhash.word_hashes(
        [b"a b c d", b"", b"a b", b"b a", b"a", b"a b c d", b"b c d e"]
    )
    found, owners = minhash.ngrams(hashes, counts, 3)
    grams = [set(found[owners == number].tolist()) for number in range(7)]
    assert [len(gram) for gram in grams] == [2, 0, 1, 1, 1, 2, 2]
    assert grams[0] == grams[5]
    assert len(grams[0] & grams[6]) == 1  # b c d
    assert len(set.union(*grams)) == 6  # abc bcd cde, and three short texts


def test_a_text_has_the_same_signature_wherever_it_stands() -> None:
    together = signed(TEXTS)
    alone = np.concatenate([signed([text]) for text in TEXTS])
    assert (together == alone).all()
    some = (together != minhash.NO_VALUE).any(axis=1)
    assert some.tolist() == [bool(text) for text in TEXTS]
    bands = minhash.band_hashes(together[some], 20, 8)
    assert (bands == np.concatenate([minhash.band_hashes(row[None], 20, 8)
                                     for row in together[some]])).all()  # fmt: skip


def test_long_texts_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [str(number) for number in range(40_000)]
    whole = signed([" ".join(words)])
    monkeypatch.setattr(minhash, "PIECE_BYTES", 20_000)
    pieces = signed([" ".join(words)])
    estimates = minhash.estimate(minhash.stored(whole), minhash.stored(pieces))
    assert estimates[0] > 0.95  # a few n-grams at the cuts differ


def test_the_estimate_is_near_the_jaccard_similarity() -> None:
    rng = random.Random(1)
    differences = []
    for share in (0.002, 0.02, 0.05, 0.2):
        for length in (8, 30, 100, 1_000):
            for _ in range(10):
                words = [str(rng.randrange(10**6)) for _ in range(length)]
                other = [w if rng.random() > share else "changed" for w in words]
                stored = minhash.stored(signed([" ".join(words), " ".join(other)]))
                found = minhash.estimate(stored[:1], stored[1:])[0]
                differences.append(found - jaccard(words, other, 5))
    assert abs(np.mean(differences)) < 0.005
    assert np.std(differences) < 0.03


@pytest.mark.parametrize("filled", [1, 10, 63, 64, 200, 256])
def test_both_ways_of_densifying_give_the_same(
    filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(filled)
    least = np.full((5, 256), minhash.NO_VALUE, np.uint32)
    for row in least:
        row[rng.choice(256, filled, replace=False)] = rng.integers(0, 1 << 32, filled)
    monkeypatch.setattr(minhash, "SPARSE_BINS", 1000)
    by_rank = minhash.densified(least, 200)
    monkeypatch.setattr(minhash, "SPARSE_BINS", 0)
    by_turns = minhash.densified(least, 200)
    assert (by_rank == by_turns).all()
    assert (by_rank != minhash.NO_VALUE).all()
    given = least[:, :200]
    assert (by_rank == given)[given != minhash.NO_VALUE].all()


@pytest.mark.parametrize("length", [60, 2_000])
def test_bands_find_pairs_above_the_threshold(length: int) -> None:
    rng = random.Random(length)
    first, second = [], []
    for _ in range(300):
        words = [str(rng.randrange(10**6)) for _ in range(length)]
        place = rng.randrange(length)
        cut = round(0.06 * length)  # leaves 0.8 or more in common
        other = words[:place] + words[place + cut :]
        if jaccard(words, other, 5) >= 0.8:
            first.append(" ".join(words))
            second.append(" ".join(other))
    bands = [minhash.band_hashes(signed(texts), *minhash.bands_for(0.8, 256))
             for texts in (first, second)]  # fmt: skip
    num_pairs = len(first)
    found = int((bands[0] == bands[1]).any(axis=1).sum())
    assert num_pairs > 100
    assert found / num_pairs > 0.97


def test_bands_for_a_threshold() -> None:
    assert minhash.bands_for(0.8, 256) == (26, 8)
    assert minhash.bands_for(1.0, 256) == (1, 256)
    assert minhash.bands_for(0.01, 64) == (64, 1)
    for threshold in (0.5, 0.7, 0.9):
        bands, rows = minhash.bands_for(threshold, 256)
        assert bands * rows <= 256
        assert 1 - (1 - threshold**rows) ** bands >= minhash.RECALL
