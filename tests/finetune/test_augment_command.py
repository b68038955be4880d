"""`finetune augment`: the file, that the task's reader takes it, and what is shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune import __main__
from finetune.tasks import classification, ner
from tests.ranks import ROOT

PEOPLE = 'tasks.people.augment=[{kind="mention_replacement"}, {kind="aeda", copies=2}]'
REVIEWS = 'tasks.reviews.augment=[{kind="flip", share=0.5}]'


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    return __main__.main(["augment", "recipe.toml", *arguments])


def test_copies_are_written_and_shown(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(workplace, monkeypatch, PEOPLE, "--task", "people") == 0
    path = workplace / "run" / "finetune" / "people" / "augmented.jsonl"
    rows = lines_of(path)
    params = ner.Params(train=path)
    copies = ner.read(path, params).rows
    assert len(copies) == len(rows) > 64
    train = ner.read(workplace / "train.conll", ner.Params(train=Path("x"))).rows
    for row, copy in zip(rows, copies, strict=True):
        origin = train[row["origin"]]
        assert [entity.type for entity in copy.entities] == [e.type for e in origin.entities]
        assert copy.text != origin.text
        assert row["operation"] in ("mention_replacement", "aeda")
    shown = capsys.readouterr().out
    kept = {name: sum(row["operation"] == name for row in rows) for name in ("aeda",)}
    line = next(line for line in shown.splitlines() if "aeda" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]][::6] == ["aeda", str(kept["aeda"])]
    assert "](PER)" in shown
    assert f"{len(rows)} copies of 64 training rows in run/finetune/people/augmented.jsonl" in shown
    assert [found.name for found in path.parent.iterdir()] == ["augmented.jsonl"]  # none trained


def test_all_tasks_with_operations_and_the_first_rows_only(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(workplace, monkeypatch, REVIEWS, "--rows", "10") == 0
    folder = workplace / "run" / "finetune"
    assert [found.name for found in folder.iterdir()] == ["reviews"]
    path = folder / "reviews" / "augmented.jsonl"
    rows = lines_of(path)
    train = classification.read(
        workplace / "train.jsonl", classification.Params(train=Path("x"))
    ).rows
    assert rows
    for row in rows:
        assert row["origin"] < 10
        assert row["text"] == " ".join(reversed(train[row["origin"]].texts[0].split()))
        assert row["label"] == train[row["origin"]].label


def test_the_same_copies_whatever_the_number_of_rows(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workplace / "run" / "finetune" / "reviews" / "augmented.jsonl"
    assert run(workplace, monkeypatch, REVIEWS) == 0
    whole = lines_of(path)
    assert run(workplace, monkeypatch, REVIEWS, "--rows", "20") == 0
    assert lines_of(path) == [row for row in whole if row["origin"] < 20]


def test_a_dry_run_writes_nothing(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(workplace, monkeypatch, PEOPLE, "--dry-run") == 0
    assert "finetune.people.augment: mention_replacement, aeda" in capsys.readouterr().out
    assert not (workplace / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--task", "poeple"], 2, "--task poeple: the tasks of the recipe are: people, reviews"),
        (["--task", "people"], 2, "tasks.people.augment is empty: list operations there"),
        ([PEOPLE, "--rows", "0"], 2, "--rows 0: at least 1 row must be copied"),
        ([REVIEWS.replace("flip", "mention_replacement")], 2, "is for tasks with a token head"),
        ([PEOPLE, 'tasks.people.train="none.conll"'], 3, "waits for none.conll, which is missing"),
        (
            ['tasks.reviews.augment=[{kind="synonym", lexicon="none.tsv"}]'],
            3,
            "augmentation needs none.tsv, which is missing",
        ),
    ],
)
def test_bad_input(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    assert run(workplace, monkeypatch, *arguments) == code
    assert message in capsys.readouterr().err


def test_the_engine_is_not_started(workplace: Path) -> None:
    program = (
        "import sys; from finetune.__main__ import main; "
        f"code = main(['augment', 'recipe.toml', {PEOPLE!r}]); "
        "print(code, 'deepspeed' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=workplace, env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
