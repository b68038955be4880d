"""Fits that predict rows they have not seen: what is stored, read again, and refused.

Real ones are in test_crossvalidation.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import held_out
from finetune.config import Recipe
from finetune.evaluation import Outputs
from finetune.held_out import SPLIT
from finetune.prepare import Prepared, prepare
from runtime import processes, recipe
from runtime.errors import DataError

OPERATION = 'tasks.reviews.augment=[{kind="flip"}]'


def task_of(*overrides: str) -> Any:
    """The recipe of the folder and its task `reviews`."""
    found = recipe.load(Path("recipe.toml"), overrides, Recipe)
    return found, prepare(found, "reviews")


@pytest.fixture
def part(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A recipe and a part of the task `reviews`."""
    monkeypatch.chdir(workplace)
    found, prepared = task_of()
    rows: Sequence[Any] = prepared.data["train"].rows
    return found, held_out.part(prepared, rows[:60], rows[60:])


def outputs_of(part: Prepared) -> Outputs:
    rng = np.random.default_rng(3)
    windows = part.encoded[SPLIT].windows
    logits = [rng.normal(size=(len(w.positions), 2)).astype(np.float32) for w in windows]
    return Outputs(logits, 0.7)


def test_a_part_has_no_test_rows(part: Any) -> None:
    _, prepared = part
    assert list(prepared.data) == ["train", "valid", SPLIT]
    assert [len(dataset.rows) for dataset in prepared.data.values()] == [60, 21, 4]


def test_a_stored_fit_predicts_the_same(part: Any, tmp_path: Path) -> None:
    found, prepared = part
    outputs = outputs_of(prepared)
    identity = held_out.identity_of(found, prepared, seed=1)
    held_out.write(tmp_path, outputs, identity, {"decoding": {}, "training": {"steps": 9}})
    read = held_out.stored(prepared, tmp_path, identity)
    assert read.training == {"steps": 9}
    assert read.scored.loss == 0.7
    labels = [prepared.labels[int(logits[0].argmax())] for logits in outputs.logits]
    assert [prediction.label for prediction in read.scored.predictions] == labels


def test_damaged_or_foreign_fits_are_refused(part: Any, tmp_path: Path) -> None:
    found, prepared = part
    outputs = outputs_of(prepared)
    identity = held_out.identity_of(found, prepared, seed=1)
    facts: dict[str, Any] = {"decoding": {}, "training": {}}
    held_out.write(tmp_path, outputs, identity, facts)
    with pytest.raises(DataError, match=r"seed: 1 -> 2\nrestore them, set another `output`"):
        held_out.stored(prepared, tmp_path, held_out.identity_of(found, prepared, seed=2))
    held_out.write(tmp_path, Outputs(outputs.logits[:3], 0.7), identity, facts)
    with pytest.raises(DataError, match="holds 3 outputs, expected 4; delete"):
        held_out.stored(prepared, tmp_path, identity)
    (tmp_path / held_out.OUTPUTS).write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"outputs\.npz cannot be read"):
        held_out.stored(prepared, tmp_path, identity)


def test_which_operations_made_rows_is_no_setting_of_a_fit(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, prepared = part
    seen = []

    def stored(prepared: Prepared, folder: Path, identity: dict[str, Any]) -> None:
        seen.append(identity)

    monkeypatch.setattr(held_out, "stored", stored)
    monkeypatch.setattr(processes, "all_ranks", lambda claim: True)
    held_out.predicted(found, prepared, tmp_path, seed=1)
    changed, other = task_of(OPERATION)
    rows = other.data["train"].rows
    held_out.predicted(changed, held_out.part(other, rows[:60], rows[60:]), tmp_path, seed=1)
    assert seen[0] == seen[1]
    held_out.predicted(changed, held_out.part(other, rows[:59], rows[60:]), tmp_path, seed=1)
    assert seen[2]["data"]["train"] != seen[0]["data"]["train"]
    assert seen[2]["data"][SPLIT] == seen[0]["data"][SPLIT]
