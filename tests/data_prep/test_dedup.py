"""Exact duplicates: which copy stays, how they are counted, and how the split follows."""

import random
from typing import Literal

import numpy as np
import pytest

from data_prep import dedup
from data_prep.dedup import Dedup, first_copies, is_valid, text_hash


def hashes(*texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    return np.array([text_hash(text, Dedup()) for text in texts], np.uint64).reshape(-1, 2)


def test_the_first_copy_stays() -> None:
    # source 0: units 0 and 1; source 1: unit 2
    merged = first_copies(
        [hashes("a", "b", "a"), hashes("c", "b"), hashes("c", "d", "d", "a")], [0, 0, 1], 2
    )
    assert [keep.tolist() for keep in merged.keep] == [
        [True, True, False],
        [True, False],
        [False, True, False, False],
    ]
    # rows: dropped from; columns: kept in
    assert merged.copies.tolist() == [[2, 0], [2, 1]]


def test_merging_in_ranges_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    units = [hashes(*(str(rng.randrange(300)) for _ in range(100))) for _ in range(8)]
    sources = [0, 0, 0, 1, 1, 2, 2, 2]
    whole = first_copies(units, sources, 3)
    monkeypatch.setattr(dedup, "RANGE_DOCUMENTS", 50)
    parts = first_copies(units, sources, 3)
    assert (whole.copies == parts.copies).all()
    assert all((a == b).all() for a, b in zip(whole.keep, parts.keep, strict=True))
    assert sum(int(keep.sum()) for keep in whole.keep) + whole.copies.sum() == 800
    values = {tuple(row) for unit in units for row in unit.tolist()}
    assert sum(int(keep.sum()) for keep in whole.keep) == len(values)


def test_empty_units() -> None:
    merged = first_copies([hashes(), hashes("a"), hashes()], [0, 0, 1], 2)
    assert [keep.tolist() for keep in merged.keep] == [[], [True], []]


@pytest.mark.parametrize(
    ("compare", "equal"),
    [("text", []), ("words", ["a  b\n"]), ("words_any_case", ["a  b\n", "A b"])],
)
def test_what_counts_as_equal(
    compare: Literal["text", "words", "words_any_case"], equal: list[str]
) -> None:
    table = Dedup(compare=compare)
    same = [t for t in ("a  b\n", "A b", "ab") if text_hash(t, table) == text_hash("a b", table)]
    assert same == equal


def test_split_by_hash() -> None:
    found = hashes(*map(str, range(20_000)))
    assert is_valid(found, 0.05).mean() == pytest.approx(0.05, abs=0.006)
    assert not is_valid(found, 0.0).any()
    assert (
        is_valid(hashes("x", "y  z"), 0.5).tolist() == is_valid(hashes("x ", "y z"), 0.5).tolist()
    )
    # A larger share only adds documents.
    assert (is_valid(found, 0.05) <= is_valid(found, 0.1)).all()
