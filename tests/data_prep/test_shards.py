"""The shard format: what is written is read, what is damaged is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import shards
from data_prep.shards import Corpus
from runtime import provenance
from runtime.errors import DataError

T = 16


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards of 6 and 4 samples with 1 or 2 segments each, in blocks of 128 bytes."""
    monkeypatch.setattr(shards, "BLOCK_BYTES", 128)
    folder = tmp_path / "sources" / "web"
    folder.mkdir(parents=True)
    entries = []
    for number, size in enumerate((6, 4)):
        tokens = (np.arange(size * T).reshape(size, T) + 1000 * number).astype(np.uint16)
        counts = np.array([1 + sample % 2 for sample in range(size)])
        lengths = np.concatenate([[T] if n == 1 else [10, 6] for n in counts]).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        documents = np.arange(len(lengths), dtype=np.uint64) + 50 * number
        entries.append(
            shards.write_shard(folder, f"train-{number:05d}", tokens, lengths, offsets, documents)
        )
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    ids = {"pad_id": 0, "cls_id": 2, "sep_id": 3, "mask_id": 4, "unk_id": 1}
    empty: dict[str, Any] = {"num_samples": 0, "num_tokens": 0, "num_documents": 0, "shards": []}
    manifest: dict[str, Any] = {
        "format": shards.FORMAT,
        "sequence_length": T,
        "tokenizer": {
            **ids,
            "vocab_size": 2048,
            "special_ids": [0, 1, 2, 3, 4],
            "fingerprint": provenance.file_fingerprint(tmp_path / "tokenizer" / "tokenizer.json"),
        },
        "sources": {
            "web": {
                "domain": "general",
                "documents": {},
                "splits": {
                    "train": {
                        "num_samples": 10, "num_tokens": 160, "num_documents": 9, "shards": entries
                    },
                    "valid": empty,
                },
            }
        },
    }  # fmt: skip
    manifest["fingerprint"] = shards.manifest_fingerprint(manifest)
    provenance.write_json(tmp_path / "manifest.json", manifest)
    return tmp_path


def test_reads_samples_in_the_order_asked_for(corpus: Path) -> None:
    reader = Corpus(corpus).reader("web", "train")
    rows = reader.gather(np.array([9, 0, 7, 0]))
    assert rows.tokens[:, 0].tolist() == [1048, 0, 1016, 0]
    assert rows.tokens.dtype == np.int32
    assert rows.counts.tolist() == [2, 1, 2, 1]
    assert rows.lengths.tolist() == [10, 6, 16, 10, 6, 16]
    assert rows.documents.tolist() == [54, 55, 0, 51, 52, 0]


def test_no_samples_and_empty_splits(corpus: Path) -> None:
    opened = Corpus(corpus)
    assert len(opened.reader("web", "train").gather(np.array([], np.int64)).tokens) == 0
    assert opened.reader("web", "valid").num_samples == 0


def test_sample_out_of_range(corpus: Path) -> None:
    with pytest.raises(IndexError, match="must be in"):
        Corpus(corpus).reader("web", "train").gather(np.array([10]))


def test_facts(corpus: Path) -> None:
    opened = Corpus(corpus)
    assert opened.tokenizer.mask_id == 4
    assert opened.sources["web"].domain == "general"
    reader = opened.reader("web", "train")
    assert (reader.num_samples, reader.num_tokens, reader.num_documents) == (10, 160, 9)


def test_files_are_plain_npy(corpus: Path) -> None:
    tokens = np.load(corpus / "sources" / "web" / "train-00001.tokens.npy")
    assert tokens.shape == (4, T)
    assert tokens.dtype == np.uint16


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_flipped_bit_is_found_when_the_block_is_read(corpus: Path) -> None:
    flip(corpus / "sources" / "web" / "train-00000.tokens.npy", 128 + 3 * 2 * T)
    reader = Corpus(corpus).reader("web", "train")
    reader.gather(np.array([5, 8]))  # other blocks are sound
    with pytest.raises(DataError, match=r"train-00000\.tokens\.npy: block 1 .* is damaged"):
        reader.gather(np.array([3]))


@pytest.mark.parametrize("kind", shards.KINDS)
def test_verify_finds_a_flipped_bit_anywhere(corpus: Path, kind: str) -> None:
    Corpus(corpus).verify()
    flip(corpus / "sources" / "web" / f"train-00001.{kind}.npy", -1)
    with pytest.raises(DataError, match=rf"train-00001\.{kind}\.npy: block"):
        Corpus(corpus).verify()


def test_damaged_header(corpus: Path) -> None:
    flip(corpus / "sources" / "web" / "train-00000.tokens.npy", 1)
    with pytest.raises(DataError, match=r"not a readable \.npy file"):
        Corpus(corpus).reader("web", "train")


def test_truncated_shard_is_refused_at_opening(corpus: Path) -> None:
    path = corpus / "sources" / "web" / "train-00000.tokens.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train-00000\.tokens\.npy: .* truncated from block 1 on"):
        Corpus(corpus)


def test_missing_shard(corpus: Path) -> None:
    (corpus / "sources" / "web" / "train-00001.offsets.npy").unlink()
    with pytest.raises(DataError, match=r"train-00001\.offsets\.npy: No such file"):
        Corpus(corpus)


def test_changed_tokenizer(corpus: Path) -> None:
    (corpus / "tokenizer" / "tokenizer.json").write_text('{"other": 1}')
    with pytest.raises(DataError, match="is not the tokenizer that wrote the shards"):
        Corpus(corpus)


def test_changed_manifest(corpus: Path) -> None:
    path = corpus / "manifest.json"
    path.write_text(path.read_text().replace('"general"', '"legal"'))
    with pytest.raises(DataError, match="was changed after it was written"):
        Corpus(corpus)


def test_unfinished_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished corpus"):
        Corpus(tmp_path)


def test_unknown_source(corpus: Path) -> None:
    with pytest.raises(DataError, match=r"no source 'wiki'.* it has: web"):
        Corpus(corpus).reader("wiki", "train")
