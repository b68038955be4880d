"""Rows that an exported model agrees with stay, the others go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune import predict
from finetune.augmentation.agreement import agrees, is_answer
from finetune.ner import tagged_text
from finetune.ner.tags import Span
from finetune.task import Dataset
from finetune.texts.labelled_text import Row
from runtime import provenance
from runtime.errors import DataError

LABELS = {"ner": ["O", "B-LOC", "I-LOC"], "classification": ["bad", "good"]}


@pytest.fixture(scope="module")
def exports(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random task models as a run exports them, by kind of task."""
    from transformers import AutoConfig, set_seed

    from finetune.heads import CLASSES

    found = {}
    for kind, head in (("ner", "token"), ("classification", "sequence")):
        folder = found[kind] = tmp_path_factory.mktemp(kind)
        set_seed(3)
        config = AutoConfig.from_pretrained(encoder_folder, num_labels=len(LABELS[kind]))
        CLASSES[head].from_config(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((encoder_folder / name).read_bytes())
        facts = {
            "task": {"kind": kind, "train": "x"},
            "labels": LABELS[kind],
            "max_length": 64,
            "tokenizer": provenance.file_fingerprint(folder / "tokenizer.json"),
        }
        provenance.write_json(folder / "textmill.json", facts)
    return found


def test_sentences_need_the_same_entities(exports: dict[str, Path]) -> None:
    texts = [["ada", "met", "bob"], ["new", "york", "today"], ["the", "film", "was", "good"]]
    rows = [tagged_text.from_words(words, [], 1) for words in texts]
    (found) = predict.load(exports["ner"]).predictions(Dataset(Path("x"), rows))
    right = [replace(row, entities=tuple(p.entities)) for row, p in zip(rows, found, strict=True)]
    assert agrees(right, exports["ner"], 1.0) == [True, True, True]
    wrong = [replace(row, entities=other_than(row.entities)) for row in right]
    assert agrees([wrong[0], right[1], wrong[2]], exports["ner"], 0.0) == [False, True, False]
    # in one document, each is still looked at alone
    joined = [replace(row, document=1, place=i) for i, row in enumerate(right)]
    assert agrees(joined, exports["ner"], 0.5) == [True, True, True]


def other_than(entities: tuple[Span, ...]) -> tuple[Span, ...]:
    return () if entities else (Span(0, 1, "LOC"),)


def test_texts_need_the_label_with_enough_probability(exports: dict[str, Path]) -> None:
    answer: dict[str, Any] = predict.load(exports["classification"])(["the film was good"])[0]
    sure = answer["probabilities"][answer["label"]]
    other = next(label for label in LABELS["classification"] if label != answer["label"])
    right, wrong = (Row(("the film was good",), label, 1) for label in (answer["label"], other))
    folder = exports["classification"]
    assert agrees([right, wrong], folder, 0.0) == [True, False]
    assert agrees([right], folder, sure - 0.001) == [True]
    assert agrees([right], folder, min(1.0, sure + 0.001)) == [False]
    assert agrees([], folder, 0.5) == []


def test_several_labels_must_all_be_there() -> None:
    answer = {"labels": ["b", "a"], "probabilities": {"a": 0.9, "b": 0.6, "c": 0.1}}
    assert is_answer(Row(("x",), ("a", "b"), 1), answer, 0.5)
    assert not is_answer(Row(("x",), ("a", "b"), 1), answer, 0.7)
    assert not is_answer(Row(("x",), ("a",), 1), answer, 0.0)
    assert not is_answer(Row(("x",), (), 1), answer, 0.0)


def test_a_model_of_another_task(exports: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a model for 'ner', which predicts no label of these"):
        agrees([Row(("x",), "good", 1)], exports["ner"], 0.5)
    with pytest.raises(DataError, match="is a model for 'classification', which predicts no label"):
        agrees([Row(("x",), 0.5, 1)], exports["classification"], 0.5)
    with pytest.raises(DataError, match="is no fine-tuned model"):
        agrees([Row(("x",), "good", 1)], tmp_path, 0.5)
