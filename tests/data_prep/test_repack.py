"""Repacking: the same shards, byte for byte, as packing the documents at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import composing, packing, repack
from data_prep.packing import Packing
from data_prep.shards import (
    FORMAT,
    SPLITS,
    Corpus,
    manifest_fingerprint,
    split_of,
    tokenizer_facts,
)
from runtime import provenance
from runtime.errors import DataError, RecipeError
from tests.data_prep.conftest import content

IDS = {"pad_id": 0, "cls_id": 2, "sep_id": 3, "mask_id": 4, "unk_id": 1}
TABLE = Packing(sequence_length=512, shard_tokens=40_000)


def build(folder: Path, table: Packing, vocab_size: int = 2048) -> Path:
    """A corpus of two sources, in several shards, packed at once. Texts repeat, ids do too."""
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    fingerprint = provenance.file_fingerprint(folder / "tokenizer" / "tokenizer.json")
    entry = {**IDS, "vocab_size": vocab_size, "special_ids": [0, 1, 2, 3, 4],
             "fingerprint": fingerprint}  # fmt: skip
    facts = tokenizer_facts(folder / "tokenizer", entry)
    sources: dict[str, Any] = {}
    for source, mean in (("short", 3.0), ("long", 6.5)):
        rng = np.random.default_rng(len(source))
        splits = {}
        for split in SPLITS:
            entries = []
            for number in range(3 if split == "train" else 1):
                lengths = np.maximum(4, rng.lognormal(mean, 1.2, 60)).astype(np.int64)
                dtype = np.uint16 if vocab_size < 1 << 16 else np.uint32
                texts = rng.integers(5, vocab_size, int(lengths.sum()), dtype=dtype)
                documents = rng.integers(0, 50, len(lengths), dtype=np.uint64)
                place = folder / "sources" / source
                place.mkdir(parents=True, exist_ok=True)
                name = f"{split}-{number:05d}"
                written = composing.write(place, name, texts, lengths, documents, table, facts)
                entries.append(written | {"units": [[0, 0, 60]]})
            splits[split] = split_of(entries, table.sequence_length)
        sources[source] = {"domain": "general", "documents": {"kept": 240}, "splits": splits}
    manifest = {
        "format": FORMAT, "inputs": "xxh3:0", "sequence_length": table.sequence_length,
        "tokenizer": entry, "config": {"packing": table.model_dump(mode="json")},
        "config_fingerprint": "", "sources": sources,
    }  # fmt: skip
    manifest["fingerprint"] = manifest_fingerprint(manifest)
    provenance.write_json(folder / "manifest.json", manifest)
    return folder


def with_(**changes: Any) -> Packing:
    return Packing.model_validate(TABLE.model_dump() | changes)


def shards(folder: Path) -> dict[str, str]:
    return content(folder / "sources")


@pytest.mark.parametrize("vocab_size", [2048, 100_000])
@pytest.mark.parametrize(
    "table", [with_(sequence_length=2048), with_(sequence_length=128), with_(strategy="concat")]
)
def test_equals_packing_at_once(tmp_path: Path, table: Packing, vocab_size: int) -> None:
    old = build(tmp_path / "old", TABLE, vocab_size)
    wanted = build(tmp_path / "wanted", table, vocab_size)
    manifest = repack.repack(old, tmp_path / "new", table, workers=1)
    assert shards(tmp_path / "new") == shards(wanted)
    opened = Corpus(tmp_path / "new")
    opened.verify()
    assert manifest == opened.manifest
    assert manifest["repacked_from"] == Corpus(old).fingerprint
    assert manifest["sources"] == Corpus(wanted).manifest["sources"]
    assert repack.packing_of(tmp_path / "new") == table


def test_there_and_back_again(tmp_path: Path) -> None:
    old = build(tmp_path / "old", TABLE)
    repack.repack(old, tmp_path / "short", with_(sequence_length=16), workers=1)
    repack.repack(tmp_path / "short", tmp_path / "back", TABLE, workers=1)
    assert shards(tmp_path / "back") == shards(old)


def test_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = build(tmp_path / "old", TABLE)
    table = with_(sequence_length=128)
    wanted = shards(build(tmp_path / "wanted", table))
    done: list[str] = []
    write = composing.write

    def stop_at_the_fourth(folder: Path, name: str, *rest: Any) -> dict[str, Any]:
        done.append(name)
        if len(done) == 4:
            raise KeyboardInterrupt
        return write(folder, name, *rest)

    monkeypatch.setattr(composing, "write", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        repack.repack(old, tmp_path / "new", table, workers=1)
    assert not (tmp_path / "new").exists()
    manifest = repack.repack(old, tmp_path / "new", table, workers=1)
    assert len(done) == 4 + 5  # of 8 shards 3 were there
    assert shards(tmp_path / "new") == wanted
    assert not (tmp_path / "new.work").exists()
    assert repack.repack(old, tmp_path / "new", table, workers=1) == manifest
    assert len(done) == 9


def test_workers_change_nothing(tmp_path: Path) -> None:
    old = build(tmp_path / "old", TABLE)
    for workers in (1, 2):
        repack.repack(old, tmp_path / f"{workers}", with_(sequence_length=64), workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_what_needs_the_raw_text_is_refused(tmp_path: Path) -> None:
    old = build(tmp_path / "old", TABLE)
    with pytest.raises(RecipeError, match=r"repack cannot change packing.valid_share \(0.005 to"):
        repack.repack(old, tmp_path / "new", with_(valid_share=0.1), workers=1)


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    old = build(tmp_path / "old", TABLE)
    with pytest.raises(DataError, match="exists and is something else"):
        repack.repack(old, old, with_(sequence_length=64), workers=1)


def test_damage_is_not_carried_over(tmp_path: Path) -> None:
    old = build(tmp_path / "old", TABLE)
    path = old / "sources" / "long" / "train-00001.tokens.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"train-00001\.tokens\.npy: block 0 .* is damaged"):
        repack.repack(old, tmp_path / "new", with_(sequence_length=64), workers=1)
    assert not (tmp_path / "new").exists()


def test_documents_come_back_in_their_order() -> None:
    lengths = np.array([30, 3, 11, 1], np.int64)
    layout = composing.lay_out(lengths, packing.pack(lengths, with_(sequence_length=16)))
    order = np.argsort(layout.starts)
    assert layout.documents[order].tolist() == [0, 0, 0, 1, 2, 3]
    assert layout.starts[order].tolist() == [0, 14, 28, 31, 35, 47]
