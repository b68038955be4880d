"""Every way to encode gives the reference's ids: on any text, whatever was encoded before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import tokenizer
from data_prep.encoder import Encoder
from data_prep.encoders import sentencepiece_words, word_dictionary, wordpiece
from data_prep.encoders.encoded import in_pieces
from data_prep.encoders.wordpiece import ALONE, OTHER, SPACE, WORD, CharacterKinds
from data_prep.tokenizer import Tokenizer
from tests.data_prep.conftest import texts
from tests.data_prep.test_tokenizer import TRICKY

TABLES: dict[str, dict[str, Any]] = {
    "unigram": {"model": "unigram"},
    "bpe": {"model": "bpe"},
    "byte_bpe": {"model": "byte_bpe"},
    "wordpiece": {"model": "wordpiece"},
    "wordpiece_lowercase": {"model": "wordpiece", "lowercase": True},
}
METHODS = {"byte_bpe": "gigatoken"}
SPELT = [
    "[MASK]",
    "[mask]",
    "x[MASK]y[CLS]",
    "[CLS] at the start, at the end [SEP]",
    "<s> </s><mask> <pad>",
    "<|endoftext|>",
    "a<|endoftext|>b [PAD][UNK]",
    "[unused0] ##ing # #",
]
OTHERS = [
    "\x00\x01 control\x0bcharacters\x0c\x1c \x7f\x85 \u2028\u2029 \ufeff\ufffd",
    "na\u0308ive İstanbul ΣΊΣΥΦΟΣ ß ŉ ﬁ ½ Ⅷ",
    "\u0301 alone, ≠ and =\u0338, 가각 \u1100\u1161, \u302e\u0301 marks \u093e\u0901",
    "䷀ hexagrams 々 〇 𠀀𪜀 鿿 豈 ，。！？、“”‘’…—",
    "ไทย ភាសា العربية עברית हिन्दी தமிழ்",
    "\u200b",
    "CamelCase snake_case kebab-case 3.14 1,000 10:30 a@b.c https://x.y/z?q=1&r=2",
    "A" * 100 + " " + "A" * 101 + " " + "é" * 101,
    "\r\n\r\n \xa0\xa0 \u3000\u3000 \t\t\n",
]


@pytest.fixture(scope="session", params=TABLES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind, named after it."""
    folder = tmp_path_factory.mktemp("made") / request.param
    table = Tokenizer(vocab_size=512, **TABLES[request.param])
    tokenizer.prepare(folder, table, lambda: texts(300, seed=5))
    return folder


def assert_equal(encoder: Encoder, found: list[str]) -> None:
    ours, expected = encoder.way.encode(found), encoder.reference.encode(found)
    assert ours.lengths.tolist() == expected.lengths.tolist()
    assert ours.tokens.tolist() == expected.tokens.tolist()
    assert ours.tokens.dtype == expected.tokens.dtype


def test_each_kind_has_a_fast_way(made: Path) -> None:
    assert Encoder(made).method == METHODS.get(made.name, "words")


def test_each_text_alone_and_all_together(made: Path) -> None:
    encoder = Encoder(made)
    found = [*TRICKY, *SPELT, *OTHERS, *texts(30, seed=6)]
    for text in found:
        assert_equal(encoder, [text])
    assert_equal(encoder, found)
    assert_equal(encoder, found[::-1])
    assert_equal(Encoder(made), found)


@given(st.lists(st.text(max_size=60), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_text(made: Path, found: list[str]) -> None:
    assert_equal(held(made), found)


@given(st.lists(st.text("aA1 ',.\n\té中，\u0301\u2581[]#<>", max_size=40), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_text_of_few_characters(made: Path, found: list[str]) -> None:
    assert_equal(held(made), found)


HELD: dict[Path, Encoder] = {}


def held(folder: Path) -> Encoder:
    return HELD.setdefault(folder, Encoder(folder))


def test_text_that_spells_a_special_token_is_text(made: Path) -> None:
    encoder = Encoder(made)
    special = set(tokenizer.facts(made).special_ids) - {1}  # WordPiece may not know a character
    assert not special & set(encoder.encode([*SPELT, *OTHERS]).tokens.tolist())


def test_a_full_dictionary_begins_anew(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_dictionary, "MAX_WORDS", 40)
    monkeypatch.setattr(word_dictionary, "MAX_WORD_BYTES", 5)
    encoder = Encoder(made)
    for seed in range(4):
        assert_equal(encoder, texts(10, seed=seed))


def test_groups_do_not_show(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["", *texts(40, seed=8), "", "x" * 3000]
    whole = Encoder(made).encode(found)
    monkeypatch.setattr("data_prep.encoder.GROUP_CHARACTERS", 500)
    monkeypatch.setattr(sentencepiece_words, "BYTES_A_CALL", 64)
    parts = Encoder(made).encode(found)
    assert np.array_equal(whole.tokens, parts.tokens)
    assert np.array_equal(whole.lengths, parts.lengths)


def test_auto_tokenizer_gives_equal_ids(made: Path) -> None:
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(made)
    encoder = Encoder(made)
    for text in [*TRICKY, *SPELT, *OTHERS]:
        ids = encoder.encode([text]).tokens.tolist()
        assert auto(text, add_special_tokens=False)["input_ids"] == ids, text
        assert auto(text)["input_ids"] == [2, *ids, 3]


def test_kinds_of_characters(tmp_path: Path) -> None:
    tokenizer.prepare(
        tmp_path / "t", Tokenizer(model="wordpiece", vocab_size=512), lambda: texts(99, seed=5)
    )
    kinds = CharacterKinds(tokenizer.load_json(tmp_path / "t" / "tokenizer.json"))
    asked = "aZ0é\x00 \n\t\u3000.-,_$中，\u302e"
    found = kinds.of(np.array([ord(character) for character in asked]))
    expected = [WORD] * 5 + [SPACE] * 4 + [ALONE] * 7 + [OTHER]
    assert found.tolist() == expected


def test_a_huge_text_is_encoded_in_pieces(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in front of newlines, whatever they stand between; without any it stays whole."""
    monkeypatch.setattr(sentencepiece_words, "PIECE_BYTES", 100)
    monkeypatch.setattr(wordpiece, "PIECE_BYTES", 100)
    encoder = Encoder(made)
    lines = texts(60, seed=9)
    for joint in ("\n", "\n\n", " \n", "\n ", "\t\n\u3000", "", "中\n文"):
        assert_equal(encoder, [joint.join(lines)])
    assert_equal(encoder, ["\n" * 1000])
    assert in_pieces(b"ab\ncd\nef", 5) == [b"ab", b"\ncd", b"\nef"]
