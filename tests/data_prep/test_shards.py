"""The shard format: what is written is read, what is damaged is named."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import blocks, manifest_checks, shards
from data_prep.shards import Corpus
from runtime import provenance
from runtime.errors import DataError

T = 16


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards of 6 and 4 samples with 1 or 2 segments each, in blocks of 128 bytes."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 128)
    monkeypatch.setattr(manifest_checks, "BLOCK_BYTES", 128)
    folder = tmp_path / "sources" / "web"
    folder.mkdir(parents=True)
    entries = []
    for number, size in enumerate((6, 4)):
        tokens = (np.arange(size * T).reshape(size, T) + 1000 * number).astype(np.uint16)
        counts = np.array([1 + sample % 2 for sample in range(size)])
        lengths = np.concatenate([[T] if n == 1 else [10, 6] for n in counts]).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        documents = np.arange(len(lengths), dtype=np.uint64) + 50 * number
        starts = np.arange(len(lengths)) * T
        entries.append(
            shards.write_shard(
                folder, f"train-{number:05d}", [tokens], lengths, offsets, documents, starts
            )
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
    assert rows.tokens.dtype == np.uint16
    assert (reader.tokens(np.array([9, 0, 7, 0])) == rows.tokens).all()
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
        Corpus(corpus).reader("web", "train").gather(np.array([0]))


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


def test_nothing_is_mapped_before_it_is_read(corpus: Path) -> None:
    reader = Corpus(corpus).reader("web", "train")
    assert reader.mapped == {}
    reader.tokens(np.array([9]))
    assert list(reader.mapped) == [(1, "tokens")]


def test_few_files_are_mapped_at_a_time(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_MAPPED", 3)
    reader = Corpus(corpus).reader("web", "train")
    for _ in range(3):
        assert reader.gather(np.arange(10)).documents.tolist() == [*range(9), *range(50, 56)]
        assert len(reader.mapped) == 3


def test_a_block_is_checked_once_however_often_its_file_is_mapped(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_MAPPED", 1)
    checked: list[tuple[str, int]] = []
    check = blocks.BlockFile.check

    def counted(self: blocks.BlockFile, block: int) -> None:
        checked.append((self.path.name, block))
        check(self, block)

    monkeypatch.setattr(blocks.BlockFile, "check", counted)
    reader = Corpus(corpus).reader("web", "train")
    for _ in range(3):
        reader.gather(np.arange(10))
    assert len(checked) == len(set(checked)) > 8
    path = corpus / "sources" / "web" / "train-00001.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00001\.tokens\.npy: block \d+ .* is damaged"):
        reader.tokens(np.array([9]))


def test_readers_share_the_files_that_may_be_open(tmp_path: Path) -> None:
    """Each mapped file is an open one: where 1,024 may be, a corpus of 300 shards has more."""
    entry = shards.write_shard(
        tmp_path,
        "train-00000",
        [np.ones((1, T), np.uint16)],
        lengths=np.array([T], np.int32),
        offsets=np.array([0, 1], np.int64),
        documents=np.array([7], np.uint64),
        starts=np.array([0], np.int64),
    )
    entries = [entry | {"name": f"train-{number:05d}"} for number in range(200)]
    for other in entries[1:]:
        for kind in shards.KINDS:
            (tmp_path / f"{other['name']}.{kind}.npy").hardlink_to(
                tmp_path / f"train-00000.{kind}.npy"
            )
    facts = {"num_samples": 200, "num_tokens": 200 * T, "num_documents": 200, "shards": entries}
    readers = [shards.Reader(tmp_path, facts, T) for _ in range(2)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = max(map(int, os.listdir("/proc/self/fd"))) + 200  # 1,600 files are read
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
    try:
        for reader in readers:
            assert reader.gather(np.arange(200)).documents.tolist() == [7] * 200
        assert sum(len(reader.mapped) for reader in readers) <= low // 2
        shards.allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > low
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_sizes_of_a_very_large_corpus_are_compared_late(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_SIZES_AT_OPENING", 1)
    path = corpus / "sources" / "web" / "train-00001.tokens.npy"
    path.write_bytes(path.read_bytes()[:-1])
    reader = Corpus(corpus).reader("web", "train")
    with pytest.raises(DataError, match=r"train-00001\.tokens\.npy: .* truncated"):
        reader.tokens(np.array([7]))


def test_shards_of_an_older_version_are_to_be_built_again(corpus: Path) -> None:
    path = corpus / "manifest.json"
    path.write_text(path.read_text().replace(shards.FORMAT, "textmill-shards/1"))
    with pytest.raises(DataError, match=r"format 'textmill-shards/1', this version .* again"):
        Corpus(corpus)


def changed(corpus: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that someone changed and fingerprinted."""
    manifest = provenance.read_json(corpus / "manifest.json")
    change(manifest)
    manifest["fingerprint"] = shards.manifest_fingerprint(manifest)
    provenance.write_json(corpus / "manifest.json", manifest)


def shard_of(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["sources"]["web"]["splits"]["train"]["shards"][0]
    return found


@pytest.mark.parametrize(
    "name", ["../web", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "a\x00b", ".hidden", "-rf"]
)
def test_names_that_lead_elsewhere_are_refused(corpus: Path, name: str) -> None:
    changed(corpus, lambda manifest: shard_of(manifest).update(name=name))
    with pytest.raises(DataError, match=r"the shard name .* is not letters"):
        Corpus(corpus)
    changed(corpus, lambda manifest: shard_of(manifest).update(name="train-00000"))
    Corpus(corpus)
    changed(corpus, lambda manifest: manifest["sources"].update({name: manifest["sources"]["web"]}))
    with pytest.raises(DataError, match=r"the source name .* is not letters"):
        Corpus(corpus)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("num_samples", -1, "num_samples is -1, expected a whole number of at least 1"),
        ("num_samples", 1 << 60, "num_samples is 1152921504606846976"),
        ("num_samples", 5.0, "num_samples is 5.0"),
        ("num_samples", True, "num_samples is True"),
        ("num_samples", 5, "5 samples of 16 cannot hold 9 segments and 96 tokens"),
        ("num_segments", 10_000, "cannot hold 10000 segments"),
        ("num_tokens", 10_000, "cannot hold .* 10000 tokens"),
        ("num_tokens", 90, "num_tokens is 160, its shards have 154"),
        ("files", {}, r"files \[\], expected"),
    ],
)
def test_impossible_counts_are_refused(
    corpus: Path, place: str, value: object, message: str
) -> None:
    changed(corpus, lambda manifest: shard_of(manifest).update({place: value}))
    with pytest.raises(DataError, match=message):
        Corpus(corpus)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("bytes", 10**9, "which is not the size"),
        ("bytes", -1, "bytes is -1"),
        ("dtype", "object", "dtype 'object', expected one of"),
        ("blocks", ["0" * 16], "do not have these 1 block hashes"),
        ("blocks", ["x"] * 3, "do not have these 3 block hashes"),
    ],
)
def test_impossible_files_are_refused(
    corpus: Path, place: str, value: object, message: str
) -> None:
    changed(corpus, lambda manifest: shard_of(manifest)["files"]["tokens"].update({place: value}))
    with pytest.raises(DataError, match=message):
        Corpus(corpus)


def test_missing_keys_and_doubled_shards_are_refused(corpus: Path) -> None:
    changed(corpus, lambda manifest: shard_of(manifest).update(name="train-00001"))
    with pytest.raises(DataError, match="shard train-00001 is listed twice"):
        Corpus(corpus)
    changed(corpus, lambda manifest: manifest["sources"]["web"].pop("splits"))
    with pytest.raises(DataError, match="'splits' is missing"):
        Corpus(corpus)
