"""Tokenizers: equal ids by every way, special tokens that text cannot spell, byte counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from pydantic import ValidationError
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, trainers

from data_prep import sentencepiece_model, tokenizer
from data_prep.encoder import Encoder
from data_prep.tokenizer import Tokenizer
from runtime import provenance
from runtime.errors import DataError
from tests.data_prep.conftest import texts

TRICKY = [
    "",
    " ",
    "\n",
    "\n\n\t\n",
    "  leading and trailing  ",
    "tabs\tand\t\ttabs",
    "    indented:\n        more\n",
    "中文，没有空格。第二句！",
    "emoji 😀👩‍🚀🏴 and 𝒳 math",
    "[MASK] [CLS] [SEP] [PAD] [UNK] <s> </s> <mask>",
    "<0x0A><0xFF> spelt as text, and [unused0]",
    "\u2581 the space mark \u2581\u2581 itself",
    "e\u0301 combining, \u00a0 no-break, \u3000 wide space",
    "\u2585 and \x7f and \u200b",
    "x" * 3000,
    "字" * 3000,
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 512 pieces trained on the tests' tiny corpus."""
    folder = tmp_path_factory.mktemp("tokenizer") / "trained"
    tokenizer.prepare(folder, Tokenizer(vocab_size=512), lambda: texts(400, seed=5))
    return folder


def test_trained_facts(trained: Path) -> None:
    facts = tokenizer.facts(trained)
    assert facts.vocab_size == 512
    ids = (facts.pad_id, facts.unk_id, facts.cls_id, facts.sep_id, facts.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert facts.special_ids[:5] == (0, 1, 2, 3, 4)
    assert facts.fingerprint == provenance.file_fingerprint(trained / "tokenizer.json")


def test_training_is_deterministic(trained: Path, tmp_path: Path) -> None:
    tokenizer.prepare(tmp_path / "again", Tokenizer(vocab_size=512), lambda: texts(400, seed=5))
    for file in trained.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def ids_of(encoder: Encoder, text: str) -> list[int]:
    return [int(id) for id in encoder.encode([text]).tokens]


def test_all_ways_give_equal_ids(trained: Path) -> None:
    encoder = Encoder(trained)
    model = sentencepiece.SentencePieceProcessor(model_file=str(trained / "tokenizer.model"))
    for text in [*TRICKY, *texts(200, seed=6), *texts(20, seed=5)]:
        expected = model.encode(text)
        assert encoder.reference.encode([text]).tokens.tolist() == expected, text
        assert ids_of(encoder, text) == expected, text


def test_auto_tokenizer_gives_equal_ids(trained: Path) -> None:
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(trained)
    encoder = Encoder(trained)
    for text in [*TRICKY, *texts(50, seed=7)]:
        ids = ids_of(encoder, text)
        assert auto(text, add_special_tokens=False)["input_ids"] == ids, text
        assert auto(text)["input_ids"] == [2, *ids, 3]
        decoded = auto.decode(ids)
        assert decoded == text.replace(sentencepiece_model.SPACE, " "), text
    ids = [auto.cls_token_id, auto.sep_token_id, auto.mask_token_id, auto.pad_token_id]
    assert ids == [2, 3, 4, 0]
    assert len(auto) == 512


def test_auto_tokenizer_of_words_that_are_already_split(trained: Path) -> None:
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(trained)
    words = ["river", "stone", "中文"]
    found = auto(words, is_split_into_words=True, add_special_tokens=False)
    assert found["input_ids"] == auto(" ".join(words), add_special_tokens=False)["input_ids"]
    assert sorted(set(found.word_ids())) == [0, 1, 2]


def test_token_bytes(trained: Path) -> None:
    sizes = tokenizer.facts(trained).token_bytes()
    encoder = Encoder(trained)
    assert sizes[:5].tolist() == [0] * 5
    for text in ["river stone\n\twindow  x", "中文 😀", "[MASK]"]:
        ids = ids_of(encoder, text)
        assert sizes[ids].sum() == len(text.encode()) + 1  # and the space in front


def test_a_small_text_gives_a_small_vocabulary(tmp_path: Path) -> None:
    tokenizer.prepare(tmp_path / "t", Tokenizer(vocab_size=8192), lambda: texts(20, seed=1))
    facts = tokenizer.facts(tmp_path / "t")
    assert facts.vocab_size % 64 == 0
    assert facts.vocab_size < 8192
    ids = ids_of(Encoder(tmp_path / "t"), "[unused0] [unused1]")
    assert not set(ids) & set(facts.special_ids)


def test_no_text_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot train on this text"):
        tokenizer.prepare(tmp_path / "t", Tokenizer(), list)
    assert not (tmp_path / "t").exists()


def word_piece(folder: Path, special: list[str]) -> Path:
    """A small BERT-like tokenizer that truncates and pads, as published ones do."""
    made = FastTokenizer(models.WordPiece(unk_token=special[1]))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        texts(50, seed=3), trainers.WordPieceTrainer(vocab_size=400, special_tokens=special)
    )
    made.enable_truncation(8)
    made.enable_padding(length=8)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    provenance.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    return folder


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]


@pytest.mark.parametrize("special", [BERT, ROBERTA])
def test_an_existing_tokenizer(tmp_path: Path, special: list[str]) -> None:
    existing = word_piece(tmp_path / "old", special)
    tokenizer.prepare(tmp_path / "new", Tokenizer(path=existing), list)
    facts = tokenizer.facts(tmp_path / "new")
    assert (facts.pad_id, facts.unk_id, facts.cls_id, facts.sep_id, facts.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    text = f"river stone window garden letter morning engine {special[4]} {special[2]} paper"
    ids = ids_of(Encoder(tmp_path / "new"), text)
    assert len(ids) > 8  # neither truncated
    assert not set(ids) & {0, 2, 3, 4}  # nor padded, nor special
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert auto(text)["input_ids"] == [2, *ids, 3]
    assert auto.mask_token_id == 4
    sizes = facts.token_bytes()
    assert sizes[ids].sum() <= len(text.encode())
    spelt = FastTokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    assert sizes[spelt.token_to_id("river")] == 5


def test_a_tokenizer_without_mask_token(tmp_path: Path) -> None:
    existing = word_piece(tmp_path / "old", BERT[:4])
    with pytest.raises(DataError, match=r"the tokenizer has no mask token .*\[MASK\], <mask>"):
        tokenizer.prepare(tmp_path / "new", Tokenizer(path=existing), list)
    assert not (tmp_path / "new").exists()


def test_special_tokens_named_in_the_settings(tmp_path: Path) -> None:
    existing = word_piece(tmp_path / "old", ["<P>", "<U>", "<B>", "<E>", "<M>"])
    settings: dict[str, Any] = {
        "pad_token": "<P>", "unk_token": "<U>", "bos_token": "<B>",
        "eos_token": {"content": "<E>"}, "mask_token": "<M>",
    }  # fmt: skip
    provenance.write_json(existing / "tokenizer_config.json", settings)
    tokenizer.prepare(tmp_path / "new", Tokenizer(path=existing), list)
    facts = tokenizer.facts(tmp_path / "new")
    assert (facts.cls_id, facts.sep_id, facts.mask_id) == (2, 3, 4)


def test_an_existing_model_file(trained: Path, tmp_path: Path) -> None:
    table = Tokenizer(path=trained / "tokenizer.model")
    tokenizer.prepare(tmp_path / "new", table, list)
    new, old = tmp_path / "new" / "tokenizer.json", trained / "tokenizer.json"
    assert new.read_bytes() == old.read_bytes()


def test_a_foreign_model_with_normalisation(tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield from (line for text in texts(300, seed=8) for line in text.split("\n") if line)

    prefix = tmp_path / "foreign"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines(), model_prefix=str(prefix), vocab_size=400, byte_fallback=False,
        model_type="unigram", control_symbols=["<mask>", "<cls>", "<sep>"], pad_id=3,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    tokenizer.prepare(tmp_path / "new", Tokenizer(path=Path(f"{prefix}.model")), list)
    encoder = Encoder(tmp_path / "new")
    assert encoder.way is encoder.reference  # texts of it cannot be cut
    reference = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    for text in ["river  stone", "ﬁne café", " lead", "a\nb", "中文"]:
        assert ids_of(encoder, text) == reference.encode(text), text


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100])
def test_broken_model_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a SentencePiece model"):
        tokenizer.prepare(tmp_path / "new", Tokenizer(path=path), list)


def test_missing_and_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a \.model file nor a folder"):
        tokenizer.inputs(Tokenizer(path=tmp_path / "none"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is not a tokenizer"):
        tokenizer.prepare(tmp_path / "new", Tokenizer(path=tmp_path), list)


def test_training_keys_beside_a_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="remove vocab_size"):
        Tokenizer(path=tmp_path, vocab_size=1024)


def test_scores_are_exact_in_floats_of_both_widths(trained: Path) -> None:
    proto = sentencepiece_model.parsed((trained / "tokenizer.model").read_bytes())
    scores = np.array(
        [piece.score for piece in proto.pieces if piece.type == sentencepiece_model.NORMAL]
    )
    assert (
        scores / sentencepiece_model.SCORE_STEP == np.round(scores / sentencepiece_model.SCORE_STEP)
    ).all()
