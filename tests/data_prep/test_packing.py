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
    compose,
    pack,
)

SETTINGS = settings(max_examples=80, deadline=None)
CLS, SEP, PAD = 101, 102, 0


def int64(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_best_fit_by_hand() -> None:
    # 7 opens bin 0 (room 3), 6 bin 1 (room 4), 4 goes to bin 1, 3 to bin 0, 2 opens bin 2
    assert best_fit(int64(3, 6, 2, 7, 4), 10).tolist() == [0, 1, 2, 0, 1]


def test_compose_by_hand() -> None:
    texts = np.array([1, 2, 3, 4, 5, 6], np.uint16)  # documents 1 2 3 | 4 | 5 6
    lengths = int64(3, 1, 2)
    packed = compose(texts, lengths, pack(lengths, Packing(sequence_length=9,
                     drop_shorter_than=1, shard_tokens=9)), 9, CLS, SEP, PAD)  # fmt: skip
    assert packed.tokens.tolist() == [
        [CLS, 1, 2, 3, SEP, CLS, 5, 6, SEP],
        [CLS, 4, SEP, PAD, PAD, PAD, PAD, PAD, PAD],
    ]
    assert packed.lengths.tolist() == [5, 4, 3]
    assert packed.offsets.tolist() == [0, 2, 3]
    assert packed.documents.tolist() == [0, 2, 1]
    assert packed.num_cut == 0


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
def test_nothing_is_lost(lengths: list[int], sequence_length: int, strategy: str) -> None:
    table = Packing.model_validate(
        {"sequence_length": sequence_length, "strategy": strategy, "shard_tokens": 1000}
    )
    texts = np.arange(sum(lengths), dtype=np.uint32) + 1000
    packed = compose(
        texts, int64(*lengths), pack(int64(*lengths), table), sequence_length, CLS, SEP, PAD
    )
    # Read it back as a user would, from the documented format alone.
    found: dict[int, list[int]] = {number: [] for number in range(len(lengths))}
    for sample in range(len(packed.tokens)):
        at = 0
        for segment in range(packed.offsets[sample], packed.offsets[sample + 1]):
            length = int(packed.lengths[segment])
            tokens = packed.tokens[sample, at : at + length].tolist()
            assert (tokens[0], tokens[-1]) == (CLS, SEP)
            found[int(packed.documents[segment])] += tokens[1:-1]
            at += length
        assert (packed.tokens[sample, at:] == PAD).all()
        assert at <= sequence_length
    starts = np.cumsum([0, *lengths])
    for number, tokens in found.items():
        assert sorted(tokens) == texts[starts[number] : starts[number + 1]].tolist()
    assert int(packed.lengths.sum()) == sum(lengths) + NUM_SEPARATORS * len(packed.lengths)


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
