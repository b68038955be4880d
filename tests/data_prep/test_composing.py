"""Writing packed documents: from the files alone, every document comes back."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep import composing
from data_prep.composing import lay_out, samples_of, write
from data_prep.packing import NUM_SEPARATORS, Packing, pack
from data_prep.shards import TokenizerFacts

SETTINGS = settings(max_examples=80, deadline=None)
CLS, SEP, PAD = 101, 102, 0
FACTS = TokenizerFacts(70_000, PAD, CLS, SEP, 103, 100, (0, 100, 101, 102, 103), "", Path())


def int64(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def table(sequence_length: int, strategy: str = "best_fit") -> Packing:
    return Packing.model_validate(
        {"sequence_length": sequence_length, "strategy": strategy, "drop_shorter_than": 1,
         "shard_tokens": 1 << 23}
    )  # fmt: skip


def test_by_hand() -> None:
    texts = np.array([1, 2, 3, 4, 5, 6], np.uint16)  # documents 1 2 3 | 4 | 5 6
    lengths = int64(3, 1, 2)
    layout = lay_out(lengths, pack(lengths, table(9)))
    assert np.concatenate(list(samples_of(texts, layout, 9, FACTS))).tolist() == [
        [CLS, 1, 2, 3, SEP, CLS, 5, 6, SEP],
        [CLS, 4, SEP, PAD, PAD, PAD, PAD, PAD, PAD],
    ]
    assert layout.lengths.tolist() == [5, 4, 3]
    assert layout.offsets.tolist() == [0, 2, 3]
    assert layout.documents.tolist() == [0, 2, 1]
    assert layout.starts.tolist() == [0, 6, 4]  # 1 2 3 _ 4 _ 5 6
    assert layout.num_cut == 0


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=60),
    st.integers(8, 40),
    st.sampled_from(["best_fit", "concat"]),
    st.integers(1, 3),
)
@SETTINGS
def test_nothing_is_lost(
    lengths: list[int], sequence_length: int, strategy: str, samples_at_a_time: int
) -> None:
    texts = np.arange(sum(lengths), dtype=np.uint32) + 1000
    layout = lay_out(int64(*lengths), pack(int64(*lengths), table(sequence_length, strategy)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composing, "COPY_TOKENS", samples_at_a_time * sequence_length)
        parts = [part.copy() for part in samples_of(texts, layout, sequence_length, FACTS)]
    tokens = np.concatenate(parts)
    # Read it back as a user would, from the documented format alone.
    found: dict[int, dict[int, list[int]]] = {number: {} for number in range(len(lengths))}
    for sample in range(len(tokens)):
        at = 0
        for segment in range(layout.offsets[sample], layout.offsets[sample + 1]):
            length = int(layout.lengths[segment])
            piece = tokens[sample, at : at + length].tolist()
            assert (piece[0], piece[-1]) == (CLS, SEP)
            found[int(layout.documents[segment])][int(layout.starts[segment])] = piece[1:-1]
            at += length
        assert (tokens[sample, at:] == PAD).all()
        assert at <= sequence_length
    begin = 0
    for number, length in enumerate(lengths):
        pieces = found[number]
        whole = [token for start in sorted(pieces) for token in pieces[start]]
        assert whole == texts[begin : begin + length].tolist()
        assert min(pieces) == begin + number  # one place free after each document
        begin += length
    assert int(layout.lengths.sum()) == sum(lengths) + NUM_SEPARATORS * len(layout.lengths)


def test_a_shard_on_disk(tmp_path: Path) -> None:
    texts = np.arange(1, 11, dtype=np.uint16)
    documents = np.array([71, 72], np.uint64)
    entry = write(tmp_path, "train-00000", texts, int64(8, 2), documents, table(8), FACTS)
    assert (entry["num_samples"], entry["num_documents"], entry["documents_cut"]) == (2, 2, 1)
    assert (entry["num_segments"], entry["num_tokens"]) == (3, 16)
    tokens = np.load(tmp_path / "train-00000.tokens.npy")
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [[101, 1, 2, 3, 4, 5, 6, 102], [101, 7, 8, 102, 101, 9, 10, 102]]


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    """Ten times the documents: only what is said of a segment grows, not the samples in memory."""

    def peak(num_documents: int) -> int:
        lengths = np.full(num_documents, 500, np.int64)
        texts = np.zeros(int(lengths.sum()), np.uint16)
        documents = np.zeros(num_documents, np.uint64)
        tracemalloc.start()
        write(tmp_path, "s", texts, lengths, documents, table(512), FACTS)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(1000), peak(10_000)
    assert large - small < 9_000 * 500  # half of what the tokens of the samples would take
