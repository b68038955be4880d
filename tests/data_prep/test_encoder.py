"""The encoder: chosen way, agreement with the reference, loud fall-back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data_prep import tokenizer
from data_prep.encoder import Encoded, Encoder
from data_prep.encoders.encoded import from_lists
from data_prep.tokenizer import Tokenizer
from tests.data_prep.conftest import texts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "trained"
    tokenizer.prepare(folder, Tokenizer(vocab_size=512), lambda: texts(400, seed=5))
    return folder


def lists(encoded: Encoded) -> list[list[int]]:
    ends = np.cumsum(encoded.lengths)
    return [part.tolist() for part in np.split(encoded.tokens, ends[:-1])]


def test_ids_are_flat_small_and_equal_to_the_reference(trained: Path) -> None:
    encoder = Encoder(trained)
    found = ["", *texts(40, seed=9), ""]
    encoded = encoder.encode(found)
    assert encoded.tokens.dtype == np.uint16
    assert encoded.lengths.dtype == np.int64
    assert len(encoded.lengths) == len(found)
    assert lists(encoded) == lists(encoder.reference.encode(found))
    assert encoder.method != "tokenizers"
    assert encoder.num_mismatches == 0


def test_no_texts_and_empty_texts(trained: Path) -> None:
    encoder = Encoder(trained)
    assert encoder.encode([]).lengths.tolist() == []
    assert encoder.encode(["", ""]).lengths.tolist() == [0, 0]


def test_a_disagreement_falls_back_to_the_reference(trained: Path) -> None:
    class Wrong:
        name = "wrong"

        def encode(self, texts: Sequence[str]) -> Encoded:
            return from_lists([[7] for _ in texts], np.dtype(np.uint16))

    encoder = Encoder(trained)
    encoder.way = Wrong()
    found = texts(20, seed=9)
    assert lists(encoder.encode(found)) == lists(encoder.reference.encode(found))
    assert encoder.num_mismatches == 1
