"""The encoder: chosen way, agreement with the reference, loud fall-back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers

from data_prep import tokenizer
from data_prep.encoder import Encoded, Encoder
from data_prep.encoders.encoded import from_lists
from data_prep.tokenizer import Tokenizer
from runtime import provenance
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


def test_a_form_the_fast_library_lacks_is_encoded_by_the_reference(tmp_path: Path) -> None:
    tokenizer.prepare(
        tmp_path / "t", Tokenizer(model="byte_bpe", vocab_size=448), lambda: texts(60, seed=5)
    )
    made = tokenizer.load_json(tmp_path / "t" / "tokenizer.json")
    made.normalizer = normalizers.Lowercase()
    made.save(str(tmp_path / "t" / "tokenizer.json"))
    encoder = Encoder(tmp_path / "t")
    assert encoder.method == "tokenizers"
    found = ["River Stone", "river stone"]
    assert lists(encoder.encode(found))[0] == lists(encoder.encode(found))[1]


def test_a_way_that_leaves_out_a_step_is_caught(tmp_path: Path) -> None:
    """gigatoken takes a tokenizer without the cut into words for one with it."""
    tokenizer.prepare(
        tmp_path / "t", Tokenizer(model="byte_bpe", vocab_size=448), lambda: texts(60, seed=5)
    )
    path = tmp_path / "t" / "tokenizer.json"
    description = provenance.read_json(path)
    description["pre_tokenizer"]["use_regex"] = False
    provenance.write_json(path, description)
    encoder = Encoder(tmp_path / "t")
    found = texts(20, seed=9)
    assert lists(encoder.encode(found)) == lists(encoder.reference.encode(found))


def test_long_texts_only_are_verified_by_their_beginning(trained: Path) -> None:
    encoder = Encoder(trained)
    found = ["river stone \n" * 2000] * 3
    assert lists(encoder.encode(found)) == lists(encoder.reference.encode(found))
    assert encoder.num_mismatches == 0


def test_texts_that_become_no_tokens(tmp_path: Path) -> None:
    tokenizer.prepare(
        tmp_path / "t", Tokenizer(model="wordpiece", vocab_size=448), lambda: texts(60, seed=5)
    )
    encoder = Encoder(tmp_path / "t")
    assert encoder.encode(["\u200b", "\x00", " "]).lengths.tolist() == [0, 0, 0]
    assert encoder.num_mismatches == 0
