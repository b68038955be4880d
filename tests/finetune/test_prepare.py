"""Rows held out for validation, and rows put in the place of others."""

from pathlib import Path

import pytest

from finetune import prepare
from finetune.config import Recipe
from runtime import recipe
from runtime.errors import DataError


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Recipe:
    """The tiny recipe, with validation rows of reviews held out."""
    monkeypatch.chdir(folder)
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace('valid = "valid.jsonl"\n', ""))
    return recipe.load(path, overrides, Recipe)


def test_every_nth_row_is_held_out(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare.read(loaded(workplace, monkeypatch), "reviews")
    assert list(data) == ["train", "valid", "test"]
    assert [row.line for row in data["valid"].rows] == [1, 11, 21, 31, 41, 51, 61]
    assert len(data["train"].rows) == 57
    assert data["valid"].counts == {"rows": 7}
    assert data["train"].counts["rows_held_out"] == 7


def test_too_few_rows_to_hold_any_out(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(workplace, monkeypatch, "tasks.reviews.valid_every=65")
    with pytest.raises(DataError, match="64 documents: too few to hold out every 65th"):
        prepare.read(found, "reviews")


def test_other_rows_keep_the_labels(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare.prepare(loaded(workplace, monkeypatch), "reviews")
    some = [row for row in prepared.data["train"].rows if row.label == "pos"][:5]
    changed = prepared.with_rows(train=some)
    assert changed.labels == ["neg", "pos"]
    assert changed.data["train"].counts == {"rows": 5}
    assert len(changed.encoded["train"].windows) == 5
    assert changed.encoded["test"] is prepared.encoded["test"]
