"""Which copies are made and which of them are trained on."""

from pathlib import Path
from typing import Any

import pytest

from finetune.augmentation import agreement, augmenting
from finetune.augmentation.augmenting import (
    Augmentation,
    Copy,
    chosen,
    likeness,
    made,
    misfits,
    names,
)
from finetune.ner import tagged_text
from finetune.task import Task
from finetune.texts.labelled_text import Row, texts
from runtime.errors import DataError
from tests.finetune.augment.conftest import params_of, task_of

ROWS = [Row((f"{i} one two three",), "x", i) for i in range(20)]


def of(text: str, *more: str) -> Row:
    return Row((text, *more), "x", 1)


def test_copies_are_counted_by_what_became_of_them() -> None:
    train = [of("a b"), of("c d")]
    held_out = [of("E  f"), Row(("x y", "z"), "1", 1)]
    copies = [
        Copy(1, 1, of("b a")),  # kept, though place 0 comes first
        Copy(0, 0, train[0]),  # unchanged
        Copy(0, 0, of("c d")),  # the other training row
        Copy(1, 0, of("d c")),  # kept
        Copy(1, 1, of("d c")),  # made by the first operation already
        Copy(0, 1, of("e F")),  # a valid row in another case and spacing
        Copy(1, 1, of("Z", "x y")),  # a pair of test the other way round
    ]
    found = chosen(train, held_out, texts, copies, {0: 0, 1: 3})
    assert [copy.row.texts for copy in found.copies] == [("d c",), ("b a",)]
    assert found.counts == {
        0: {
            "made": 3, "unchanged": 1, "duplicate": 1, "in_valid_or_test": 0, "filtered": 0,
            "kept": 1,
        },
        1: {
            "made": 7, "unchanged": 0, "duplicate": 1, "in_valid_or_test": 2, "filtered": 3,
            "kept": 1,
        },
    }  # fmt: skip


def test_likeness_is_blind_to_case_spacing_and_order() -> None:
    assert likeness(("A b", "ß")) == likeness(("SS", "ab"))
    assert likeness(("ab",)) != likeness(("ba",))


def test_a_row_gets_what_its_number_says() -> None:
    task = task_of(params_of("aeda", copies=2, share=0.5))
    whole, num_filtered = made(ROWS, task, 0, 7, range(20))
    assert num_filtered == 0
    halves = [*made(ROWS, task, 0, 7, range(10, 20))[0], *made(ROWS, task, 0, 7, range(10))[0]]
    assert sorted(halves, key=repr) == sorted(whole, key=repr)
    origins = [copy.origin for copy in whole]
    assert len(origins) == 2 * len(set(origins))
    assert 4 <= len(set(origins)) <= 16
    assert made(ROWS, task, 0, 8, range(20))[0] != whole
    twice = task_of(params_of("aeda"), params_of("aeda"))
    first, second = (made(ROWS, twice, place, 7, range(20))[0] for place in (0, 1))
    assert [copy.row for copy in first] != [copy.row for copy in second]


def test_a_filter_says_which_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def agrees(rows: list[Any], folder: Path, min_probability: float) -> list[bool]:
        seen.append((folder, min_probability))
        return [row.line % 4 == 0 for row in rows]

    monkeypatch.setattr(agreement, "agrees", agrees)
    task = task_of(params_of("flip", filter_model=tmp_path, min_probability=0.8))
    found, num_filtered = made(ROWS, task, 0, 7, range(20))
    assert [copy.origin for copy in found] == [0, 4, 8, 12, 16]
    assert num_filtered == 15
    assert seen == [(tmp_path, 0.8)]
    assert made(ROWS, task, 0, 7, []) == ([], 0)


def test_names_are_numbered_where_a_kind_is_met_twice() -> None:
    operations = [params_of("eda"), params_of("flip"), params_of("eda")]
    assert names(operations) == ["eda-1", "flip", "eda-3"]


def test_operations_that_do_not_fit_a_task() -> None:
    assert misfits("ner", [params_of("flip"), params_of("pairs")]) == [
        "augment 'pairs' is for tasks with a sequence head; 'ner' has a token head"
    ]
    assert misfits("classification", [params_of("eda")]) == []


def test_files_of_operations(tmp_path: Path) -> None:
    lexicon, model = tmp_path / "words.tsv", tmp_path / "model"
    lexicon.touch()
    with pytest.raises(DataError, match=r"needs .*missing\.tsv, which is missing"):
        augmenting.inputs([params_of("synonym", lexicon=tmp_path / "missing.tsv")])
    with pytest.raises(DataError, match=r"needs a model in .*/model, which is missing or empty"):
        augmenting.inputs([params_of("flip", filter_model=model)])
    model.mkdir()
    (model / "config.json").touch()
    operations = [params_of("synonym", lexicon=lexicon, filter_model=model), params_of("aeda")]
    assert augmenting.inputs(operations) == [lexicon, model / "config.json"]


def test_a_recipe_names_operations_by_kind() -> None:
    table = {"kind": "classification", "metric": "accuracy", "train": "x"}
    task = Task.model_validate(
        {**table, "train": Path("x"), "augment": ({"kind": "eda", "copies": 3},)}
    )
    assert isinstance(task.augment[0], Augmentation)
    assert task.augment[0].copies == 3
    with pytest.raises(ValueError, match=r"no plug-in 'synonyms' in finetune\.augment; did"):
        Task.model_validate({**table, "train": Path("x"), "augment": ({"kind": "synonyms"},)})


def test_copies_of_sentences_keep_their_place() -> None:
    row = tagged_text.from_words(["one", "two"], [], 3)
    (copy,), _ = made([row], task_of(params_of("flip"), is_tagged=True), 0, 1, [0])
    assert (copy.row.text, copy.row.line) == ("two one", 3)
