"""Packing: nothing lost, nothing cut that fits, little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from data_prep.packing import (
    NUM_SEPARATORS,
    Packing,
    best_fit,
    pack,
)

SETTINGS = settings(max_examples=80, deadline=None)


def int64(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_best_fit_by_hand() -> None:
    # 7 opens bin 0 (room 3), 6 bin 1 (room 4), 4 goes to bin 1, 3 to bin 0, 2 opens bin 2
    assert best_fit(int64(3, 6, 2, 7, 4), 10).tolist() == [0, 1, 2, 0, 1]


def test_long_documents_are_cut_into_full_samples_and_a_rest() -> None:
    segments = pack(int64(25), Packing(sequence_length=12, shard_tokens=12))
    assert sorted(segments.length.tolist()) == [5, 10, 10]
    assert sorted(segments.start.tolist()) == [0, 10, 20]


def one_by_one(sizes: list[int], capacity: int) -> list[int]:
    """Best-fit decreasing as the text books write it; the room left in each bin."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [(room, number) for number, room in enumerate(rooms) if room >= size]
        if fitting:
            rooms[min(fitting)[1]] -= size
        else:
            rooms.append(capacity - size)
    return sorted(rooms)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80))
@SETTINGS
def test_equals_best_fit_one_by_one(sizes: list[int]) -> None:
    bins = best_fit(int64(*sizes), 30)
    used = np.bincount(bins, weights=sizes)
    assert sorted((30 - used).astype(int).tolist()) == one_by_one(sizes, 30)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=60),
    st.integers(8, 40),
    st.sampled_from(["best_fit", "concat"]),
)
@SETTINGS
def test_segments_make_up_the_documents(
    lengths: list[int], sequence_length: int, strategy: str
) -> None:
    table = Packing.model_validate(
        {"sequence_length": sequence_length, "strategy": strategy, "shard_tokens": 1000}
    )
    segments = pack(int64(*lengths), table)
    pieces = sorted(
        zip(segments.document.tolist(), segments.start.tolist(), segments.length.tolist(),
            strict=True)
    )  # fmt: skip
    for number, length in enumerate(lengths):
        mine = [(start, size) for document, start, size in pieces if document == number]
        starts = np.cumsum([0, *(size for _, size in mine)])
        assert [start for start, _ in mine] == starts[:-1].tolist()
        assert starts[-1] == length
    assert (np.diff(segments.sample) >= 0).all()
    assert set(segments.sample.tolist()) == set(range(segments.num_samples))


def test_concat_cuts_where_a_sample_ends() -> None:
    table = Packing(sequence_length=10, strategy="concat", drop_shorter_than=1, shard_tokens=10)
    segments = pack(int64(3, 9, 1, 20), table)
    rows = zip(segments.sample, segments.document, segments.start, segments.length, strict=True)
    assert [tuple(map(int, row)) for row in rows] == [
        (0, 0, 0, 3),
        (0, 1, 0, 3),  # 5 + 5 tokens with separators
        (1, 1, 3, 6),  # 8; the 2 places left hold no token besides the separators
        (2, 2, 0, 1),
        (2, 3, 0, 5),
        (3, 3, 5, 8),
        (4, 3, 13, 7),
    ]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=100), st.integers(20, 80))
@SETTINGS
def test_nothing_is_cut_that_fits(lengths: list[int], sequence_length: int) -> None:
    table = Packing(sequence_length=sequence_length, shard_tokens=1000)
    segments = pack(int64(*lengths), table)
    parts = np.bincount(segments.document)
    fits = np.array(lengths) + NUM_SEPARATORS <= sequence_length
    assert (parts[fits] == 1).all()
    used = np.bincount(segments.sample, weights=segments.length + NUM_SEPARATORS)
    assert used.max() <= sequence_length


@pytest.mark.parametrize("mean", [4.5, 6.0, 8.0])
def test_little_padding_on_natural_lengths(mean: float) -> None:
    rng = np.random.default_rng(0)
    lengths = np.maximum(8, rng.lognormal(mean, 1.1, 3000)).astype(np.int64)
    segments = pack(lengths, Packing(sequence_length=512))
    used = int((segments.length + NUM_SEPARATORS).sum())
    assert 1 - used / (segments.num_samples * 512) <= 0.001


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(ValidationError, match="must be at least drop_shorter_than"):
        Packing(sequence_length=8, drop_shorter_than=8)
    with pytest.raises(ValidationError, match="must be at least sequence_length"):
        Packing(sequence_length=512, shard_tokens=100)


def test_long_documents_fill_the_gaps_that_short_ones_leave() -> None:
    short, long = [474] * 2000, [50_000] * 4  # every short one leaves a gap of 36
    lengths = int64(*short, *long)
    segments = pack(lengths, Packing(sequence_length=512))
    used = int((segments.length + NUM_SEPARATORS).sum())
    assert 1 - used / (segments.num_samples * 512) <= 0.001
    assert (np.bincount(segments.document)[:2000] == 1).all()
    assert (np.bincount(segments.document, weights=segments.length) == lengths).all()
    starts = segments.start[segments.document == 2000]
    ends = starts + segments.length[segments.document == 2000]
    assert sorted(starts.tolist()) == [0, *sorted(ends.tolist())[:-1]]  # no token twice
