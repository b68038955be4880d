"""What counts as the same text, how the split follows, and which tables are refused."""

from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.dedup import Dedup, is_valid, text_hash


def hashes(*texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    return np.array([text_hash(text, Dedup()) for text in texts], np.uint64).reshape(-1, 2)


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


def test_bands_are_derived_or_given() -> None:
    assert Dedup(near_threshold=0.8, near_bins=128).bands == (16, 6)
    assert Dedup(near_bands=9, near_rows=13, near_bins=128).bands == (9, 13)
    with pytest.raises(ValidationError, match="given together or not at all"):
        Dedup(near_bands=9)
    with pytest.raises(ValidationError, match=r"\(16 x 16\) must be at most near_bins \(128\)"):
        Dedup(near_bands=16, near_rows=16, near_bins=128)
