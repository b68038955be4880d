"""Trained tokenizers: fixed ids of special tokens, the same bytes each time, Chinese text."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_prep import sentencepiece_model, tokenizer
from data_prep.encoder import Encoder
from data_prep.tokenizer import Tokenizer
from runtime.errors import DataError
from tests.data_prep.conftest import ROOT, content, texts

MODELS = ["unigram", "bpe", "byte_bpe", "wordpiece"]
TRAIN = """
import sys
from pathlib import Path
from data_prep import tokenizer
from tests.data_prep.conftest import texts
table = tokenizer.Tokenizer(vocab_size=1024, model=sys.argv[1])
tokenizer.prepare(Path(sys.argv[2]), table, lambda: texts(200, seed=5))
"""
CHINESE = Path(os.environ.get("TEXTMILL_DATA", ROOT / "../shared/data")) / "corpora/zh.jsonl.zst"


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / request.param
    table = Tokenizer(vocab_size=640, model=request.param)
    tokenizer.prepare(folder, table, lambda: texts(300, seed=5))
    return folder


def test_ids_of_special_tokens(trained: Path) -> None:
    facts = tokenizer.facts(trained)
    ids = (facts.pad_id, facts.unk_id, facts.cls_id, facts.sep_id, facts.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert facts.vocab_size == 640
    assert facts.special_ids[:5] == ids


@pytest.mark.parametrize("model", MODELS)
def test_the_same_sample_gives_the_same_files(model: str, tmp_path: Path) -> None:
    for seed, threads in (("1", "1"), ("2", "3")):
        environment = {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        environment["TOKENIZERS_PARALLELISM"] = "true"
        subprocess.run(
            [sys.executable, "-c", TRAIN, model, str(tmp_path / seed)],
            cwd=ROOT, env=os.environ | environment, check=True, timeout=300,
        )  # fmt: skip
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_bytes_of_tokens_add_up_to_the_text(trained: Path) -> None:
    sizes = tokenizer.facts(trained).token_bytes()
    encoder = Encoder(trained)
    assert sizes[:5].tolist() == [0] * 5
    text = "river stone window 中文 数据 café"
    spelt = sizes[encoder.encode([text]).tokens].sum()
    if trained.name == "wordpiece":  # spaces count for none
        assert spelt == len(text.replace(" ", "").encode())
    else:
        assert spelt == len(text.encode()) + 1  # and the space in front


@pytest.mark.parametrize("model", MODELS)
def test_a_small_text_gives_a_small_vocabulary(model: Any, tmp_path: Path) -> None:
    table = Tokenizer(vocab_size=8192, model=model)
    tokenizer.prepare(tmp_path / "t", table, lambda: texts(10, seed=1))
    facts = tokenizer.facts(tmp_path / "t")
    assert facts.vocab_size % 64 == 0
    assert facts.vocab_size < 8192
    ids = Encoder(tmp_path / "t").encode(["[unused0] [unused1]"]).tokens.tolist()
    assert not set(ids) & set(facts.special_ids) - {1}


@pytest.mark.parametrize("model", MODELS)
def test_no_text_to_train_on(model: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot train on this text"):
        tokenizer.prepare(tmp_path / "t", Tokenizer(model=model), list)
    assert not (tmp_path / "t").exists()


def test_more_characters_than_the_vocabulary_holds(tmp_path: Path) -> None:
    found = ["".join(map(chr, range(0x4E00, 0x4E00 + 600)))]
    with pytest.raises(DataError, match="600 characters that begin words and 0 inside words"):
        tokenizer.prepare(
            tmp_path / "t", Tokenizer(model="wordpiece", vocab_size=448), lambda: found
        )


@pytest.mark.parametrize("lowercase", [False, True])
def test_lower_case(lowercase: bool, tmp_path: Path) -> None:
    table = Tokenizer(model="wordpiece", vocab_size=448, lowercase=lowercase)
    tokenizer.prepare(tmp_path / "t", table, lambda: ["River CAFÉ river café"] * 3)
    encoder = Encoder(tmp_path / "t")
    high, low = (encoder.encode([text]).tokens.tolist() for text in ("River CAFÉ", "river cafe"))
    assert (high == low) is lowercase


def test_ideographs_are_words_of_their_own(tmp_path: Path) -> None:
    table = Tokenizer(model="wordpiece", vocab_size=448)
    tokenizer.prepare(tmp_path / "t", table, lambda: ["中文中文模型x模"] * 3)
    made = tokenizer.load_json(tmp_path / "t" / "tokenizer.json")
    found = made.encode("中文x模", add_special_tokens=False).tokens
    assert found == ["中", "文", "x", "模"]
    assert made.token_to_id("##中") is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"lowercase": True}, "`lowercase` is for model"),
        ({"model": "byte_bpe", "character_coverage": 0.99}, "remove character_coverage"),
        ({"path": Path("x"), "model": "bpe"}, "remove model"),
    ],
)
def test_settings_that_would_be_ignored(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tokenizer(**table)


def test_merges_of_a_sentencepiece_model(tmp_path: Path) -> None:
    """The .model and tokenizer.json of BPE give equal ids on text like the training text."""
    sentencepiece = pytest.importorskip("sentencepiece")
    table = Tokenizer(model="bpe", vocab_size=640)
    tokenizer.prepare(tmp_path / "t", table, lambda: texts(300, seed=5))
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t/tokenizer.model"))
    encoder = Encoder(tmp_path / "t")
    for text in texts(60, seed=6):
        assert encoder.encode([text]).tokens.tolist() == model.encode(text)
    again = tmp_path / "again"
    tokenizer.prepare(again, Tokenizer(path=tmp_path / "t/tokenizer.model"), list)
    assert content(again) == content(tmp_path / "t")


@pytest.mark.skipif(not CHINESE.is_file(), reason=f"{CHINESE} is not there (set TEXTMILL_DATA)")
@pytest.mark.parametrize("model", MODELS)
def test_chinese(model: Any, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    with CHINESE.open("rb") as file:
        lines = zstandard.ZstdDecompressor().stream_reader(file).read(1_000_000).split(b"\n")[:-1]
    found = [json.loads(line)["text"] for line in lines]
    table = Tokenizer(model=model, vocab_size=4096)
    tokenizer.prepare(tmp_path / "t", table, lambda: found[::2])
    facts, encoder = tokenizer.facts(tmp_path / "t"), Encoder(tmp_path / "t")
    encoded = encoder.encode(found)
    assert encoder.num_mismatches == 0
    share = (encoded.tokens == facts.unk_id).mean()
    if model == "wordpiece":
        assert share < 0.01  # it has no bytes to spell the rest in
        return
    assert share == 0
    made = tokenizer.load_json(tmp_path / "t" / "tokenizer.json")
    for place in range(0, len(found), 10):
        decoded = made.decode(encoded.of(place).tolist(), skip_special_tokens=False)
        space = " " if model == "byte_bpe" and not found[place].startswith(" ") else ""
        assert decoded == space + found[place].replace(sentencepiece_model.SPACE, " ")
