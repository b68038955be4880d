"""Real text, where it is at hand: TEXTMILL_DATA, else ../shared/data beside the project."""

import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from data_prep.encoder import Encoder
from data_prep.shards import Corpus
from tests.data_prep.conftest import ROOT, command

DATA = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared" / "data")) / "corpora"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA / "wiki.jsonl.zst").is_file(), reason=f"no corpora at {DATA}: set TEXTMILL_DATA"
    ),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpora")
    sources = "".join(
        f'[sources.{name}]\nreader = "jsonl"\ndomain = "{name}"\nid = "id"\n'
        f'path = "{DATA}/{name}.jsonl.zst"\nmax_documents = {limit}\n'
        for name, limit in (("wiki", 100), ("zh", 200), ("code", 60))
    )
    (folder / "recipe.toml").write_text(
        f'name = "real"\noutput = "{folder}/out"\n{sources}'
        "[tokenizer]\nvocab_size = 4096\nsample_bytes = 1_500_000\n[packing]\nvalid_share = 0.02\n"
    )
    result = command(folder / "recipe.toml")
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr  # SentencePiece and tokenizer.json agreed
    return Corpus(folder / "out" / "data")


def test_padding_and_counts(corpus: Corpus) -> None:
    corpus.verify()
    for name, source in corpus.sources.items():
        train = source.splits["train"]
        share = train["padding_tokens"] / (train["num_samples"] * corpus.sequence_length)
        assert share <= 0.001, name
        documents = source.documents
        lost = sum(documents["dropped"].values()) + sum(documents["quarantined"].values())
        assert documents["read"] == documents["kept"] + lost


def test_ids_equal_sentencepiece_and_auto_tokenizer(corpus: Corpus) -> None:
    """The first documents of each source, decoded from the shards, by all three ways."""
    folder = corpus.tokenizer.folder
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    piece = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    encoder = Encoder(folder)
    for source in corpus.sources:
        rows = corpus.reader(source, "train").gather(np.arange(100))
        for tokens in rows.tokens[:40]:
            text = auto.decode([t for t in tokens.tolist() if t > 4])
            ids = piece.encode(text)
            assert auto(text, add_special_tokens=False)["input_ids"] == ids
            assert encoder.encode([text]).tokens.tolist() == ids
