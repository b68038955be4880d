"""Which operations stay, by a stand-in for fits; what never becomes a copy, by real operations.

That real models are trained on the copies and resumed is in test_crossvalidation.py.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import folds, held_out
from finetune.augmentation import autoaugment, copying
from finetune.config import Recipe
from finetune.evaluation import Scored
from finetune.held_out import SPLIT, Predicted
from finetune.prepare import Prepared, prepare
from finetune.tasks.classification import Prediction
from runtime import processes, recipe
from runtime.errors import DataError, RecipeError

pytestmark = pytest.mark.usefixtures("wordnet")
COPYCAT = '''
"""Yields the texts it is told, whatever the row is."""
from dataclasses import replace
from typing import Literal
from finetune.augmentation.augmenting import Augmentation

FITS = ("sequence",)


class Params(Augmentation):
    kind: Literal["copycat.operation"] = "copycat.operation"
    texts: tuple[str, ...]


def prepare(train, task, params):
    return None


def augment(row, resources, params, rng):
    for text in params.texts:
        yield replace(row, texts=(text,))
'''


def reviews(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Any:
    """The recipe and the task `reviews`."""
    monkeypatch.chdir(folder)
    found = recipe.load(Path("recipe.toml"), overrides, Recipe)
    return found, prepare(found, "reviews")


def texts_of(prepared: Prepared, split: str) -> list[str]:
    return [row.texts[0] for row in prepared.data[split].rows]


@pytest.fixture
def copycat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An operation of another project; its `kind`."""
    (tmp_path / "copycat").mkdir()
    (tmp_path / "copycat" / "__init__.py").write_text("")
    (tmp_path / "copycat" / "operation.py").write_text(COPYCAT)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("copycat", "copycat.operation"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "copycat.operation"


def test_no_operation_changes_nothing(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, prepared = reviews(workplace, monkeypatch)
    assert autoaugment.apply(found, prepared, workplace) == (prepared, {})


def test_copies_stand_behind_the_rows_and_are_encoded(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, prepared = reviews(workplace, monkeypatch, 'tasks.reviews.augment=[{kind="flip"}]')
    grown, report = autoaugment.apply(found, prepared, workplace)
    before, after = texts_of(prepared, "train"), texts_of(grown, "train")
    added = report["rows_added"]
    assert after[:64] == before
    assert len(after) == 64 + added
    assert added == report["operations"]["flip"]["kept"] > 0
    assert [w.row for w in grown.encoded["train"].windows] == list(range(64 + added))
    assert grown.data["train"].counts["rows"] == 64
    assert grown.data["train"].counts["rows_augmented"] == added
    example = report["examples"][0]
    label, _, text = example["from"].partition(": ")
    assert example["to"] == f"{label}: {' '.join(reversed(text.split()))}"


def test_copies_never_have_the_text_of_a_scored_row(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, copycat: str
) -> None:
    (workplace / "valid.jsonl").write_text('{"text": "A film, in Oslo.", "label": "pos"}\n')
    (workplace / "test.jsonl").write_text('{"text": "lima was good", "label": "neg"}\n')
    near = ["a film, in oslo.", "A  FILM, in Oslo.", "a film in oslo", "lima was good!"]
    operation = {"kind": copycat, "texts": [*near, "lima was bad"]}
    found, prepared = reviews(workplace, monkeypatch)
    task = prepared.task.model_validate_json(
        json.dumps({**prepared.task.model_dump(mode="json"), "augment": [operation]})
    )
    grown, report = autoaugment.apply(found, replace(prepared, task=task), workplace)
    assert texts_of(grown, "train")[64:] == ["lima was bad"]
    assert report["operations"][copycat]["in_valid_or_test"] == 64 * len(near)
    for split in ("valid", "test"):
        assert grown.data[split] is prepared.data[split]
        assert grown.encoded[split] is prepared.encoded[split]


def test_ranks_make_the_same_copies_as_one(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, prepared = reviews(
        workplace, monkeypatch, 'tasks.reviews.augment=[{kind="aeda", copies=2}, {kind="flip"}]'
    )

    def made(world: int) -> Any:
        parts: list[Any] = []

        def gather(mine: Any) -> list[Any]:
            parts.append(mine)
            return parts

        monkeypatch.setattr(processes, "world_size", lambda: world)
        monkeypatch.setattr(processes, "gather", gather)
        for rank in range(world):  # the last one to come sees what all have made
            monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
            found = copying.copies(prepared.plugin, prepared.task, prepared.data, (0, 1), seed=5)
        return found

    alone = made(1)
    assert alone.counts[0]["made"] == 128
    assert made(3) == alone


def test_an_operation_for_other_tasks_is_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, prepared = reviews(
        workplace, monkeypatch, 'tasks.reviews.augment=[{kind="mention_replacement"}]'
    )
    with pytest.raises(RecipeError, match=r"tasks\.reviews: augment 'mention_replacement' is for"):
        autoaugment.apply(found, prepared, workplace)


class Fits:
    """A stand-in for training: so many of all rows are predicted rightly, by candidate."""

    def __init__(self, right: dict[str, int]) -> None:
        self.right = right
        self.folders: list[Path] = []
        self.parts: list[Prepared] = []

    def predicted(
        self, recipe: Recipe, part: Prepared, folder: Path, seed: int, accepts_drift: bool
    ) -> Predicted:
        self.folders.append(folder)
        self.parts.append(part)
        rows = part.data[SPLIT].rows
        fold = int(folder.name.removeprefix("fold-"))
        right = (self.right[folder.parent.name] + fold - 1) // 4  # of this fold's rows
        said = [said_of((row.label == "pos") == (i < right)) for i, row in enumerate(rows)]
        scores: Any = None
        return Predicted(Scored(scores, 0.0, said), {})


def said_of(is_positive: bool) -> Prediction:
    sure = np.array([0.1, 0.9] if is_positive else [0.9, 0.1])
    return Prediction("pos" if is_positive else "neg", sure)


AUTO = (
    "augment.auto=true",
    "augment.folds=4",
    'tasks.reviews.augment=[{kind="flip"}, {kind="aeda"}, {kind="eda", synonym_rate=0.0, '
    "insertion_rate=0.0, swap_rate=0.5}]",
)


def judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, right: dict[str, int], *overrides: str
) -> tuple[Fits, Prepared, dict[str, Any]]:
    # Rows that differ by more than punctuation, or few copies would be new.
    lines = [
        json.dumps({"text": f"the {word} film {word[0]}{a}{b}", "label": label})
        for a in "abcd"
        for b in "efghijkl"
        for word, label in (("good", "pos"), ("bad", "neg"))
    ]
    (folder / "train.jsonl").write_text("\n".join(lines))
    fits = Fits(right)
    monkeypatch.setattr(held_out, "predicted", fits.predicted)
    found, prepared = reviews(folder, monkeypatch, *AUTO, *overrides)
    grown, report = autoaugment.apply(found, prepared, folder / "task")
    return fits, grown, report


def kept_of(report: dict[str, Any]) -> str:
    return str(report["chosen_by"]["kept"])


def test_only_what_helps_stays(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"without": 32, "flip": 16, "aeda": 58, "eda": 34}
    fits, grown, report = judged(workplace, monkeypatch, right)
    assert kept_of(report) == "aeda"
    assert list(report["operations"]) == ["aeda"]
    assert len(grown.data["train"].rows) == 64 + report["operations"]["aeda"]["kept"]
    table = {row["operation"]: row for row in report["what_each_brought"]}
    assert list(table) == ["without", "flip", "aeda", "eda"]
    assert table["without"]["score"] == 0.5
    gain = table["aeda"]["score"] - table["without"]["score"]
    assert table["aeda"]["gain"] == pytest.approx(gain)
    assert table["aeda"]["p"] < 0.001
    assert table["flip"]["gain"] < 0
    assert [table[name]["helps"] for name in ("flip", "aeda", "eda")] == [False, True, False]
    assert table["eda"]["p"] > 0.05  # a gain of two rows may be luck
    assert len(fits.folders) == 4 * 4


def test_what_helps_is_tried_together(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"without": 32, "flip": 32, "aeda": 52, "eda": 44}
    _, _, report = judged(workplace, monkeypatch, {**right, "together": 60})
    assert kept_of(report) == "aeda, eda"
    last = report["what_each_brought"][-1]
    assert (last["operation"], last["against"], last["helps"]) == ("aeda + eda", "aeda", True)
    assert list(report["operations"]) == ["aeda", "eda"]
    _, _, report = judged(workplace, monkeypatch, {**right, "together": 48})
    assert kept_of(report) == "aeda"
    assert report["what_each_brought"][-1]["helps"] is False


def test_nothing_helps(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = dict.fromkeys(("without", "flip", "aeda", "eda"), 48)
    _, grown, report = judged(workplace, monkeypatch, right)
    assert kept_of(report) == "none"
    assert report["rows_added"] == 0
    assert len(grown.data["train"].rows) == 64
    assert [row.get("p", 1.0) for row in report["what_each_brought"]] == [1.0] * 4


def test_max_p_decides(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"without": 32, "flip": 16, "aeda": 20, "eda": 34}
    _, _, report = judged(workplace, monkeypatch, right, "augment.max_p=0.5")
    assert kept_of(report) == "eda"


def test_folds_are_scored_on_rows_as_read_and_copied_from_the_rest(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"without": 32, "flip": 16, "aeda": 20, "eda": 24}
    fits, _, _ = judged(workplace, monkeypatch, right)
    _, prepared = reviews(workplace, monkeypatch)
    rows = prepared.data["train"].rows
    parts = folds.of(prepared.plugin, prepared.data["train"], 4, seed=0)
    assert len(fits.parts) == 16
    for folder, part in zip(fits.folders, fits.parts, strict=True):
        fold = parts[int(folder.name.removeprefix("fold-")) - 1]
        held, trained = part.data[SPLIT].rows, part.data["train"].rows
        assert held == [rows[i] for i in fold]
        assert trained[:48] == [row for i, row in enumerate(rows) if i not in fold]
        assert "test" not in part.data
        assert part.data["valid"].rows == prepared.data["valid"].rows
        copies = trained[48:]
        assert bool(copies) == (folder.parent.name != "without")
        names = {row.texts[0].split()[-1] for row in held}
        assert not any(name in row.texts[0].split() for row in copies for name in names)


def test_documents_and_places_of_sentences_stay(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (workplace / "train.conll").read_text().split("\n\n")
    marked = [f"-DOCSTART- O\n\n{block}" if i % 4 == 0 else block for i, block in enumerate(text)]
    (workplace / "train.conll").write_text("\n\n".join(marked))
    monkeypatch.chdir(workplace)
    operation = 'tasks.people.augment=[{kind="aeda"}]'
    found = recipe.load(Path("recipe.toml"), (operation,), Recipe)
    prepared = prepare(found, "people")
    before = prepared.data["train"].rows
    grown, _ = autoaugment.apply(found, prepared, workplace)
    rows: Sequence[Any] = grown.data["train"].rows
    places = {(row.document, row.place) for row in before}
    assert len(places) == 64
    assert {row.document for row in before} == {row.document for row in rows[64:]}
    by_place = {(row.document, row.place): row for row in before}
    for row in rows[64:]:
        origin = by_place[row.document, row.place]
        assert [w for w in row.words if w not in ".;?:!,"] == [
            w for w in origin.words if w not in ".;?:!,"
        ]


def test_too_few_documents_for_the_folds(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"without": 32}
    with pytest.raises(DataError, match="64 documents are too few for 65 folds"):
        judged(workplace, monkeypatch, right, "augment.folds=65")
