"""What would be done is said before anything heavy is imported; bad input is one clear error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import plan as data_plan
from finetune import plan
from finetune.config import Recipe
from runtime import provenance, recipe
from runtime.errors import RecipeError
from runtime.stages import Plan
from tests.ranks import ROOT


def planned(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Plan:
    monkeypatch.chdir(folder)
    return plan.plan(recipe.load(Path("recipe.toml"), overrides, Recipe))


def test_one_part_a_task(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(workplace, monkeypatch)
    assert [part.stage for part in found.parts] == ["finetune.people", "finetune.reviews"]
    assert found.pending is None
    assert not found.is_done
    assert planned(workplace, monkeypatch).inputs == found.inputs


def test_a_task_is_done_until_something_it_depends_on_changes(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, reviews = planned(workplace, monkeypatch).parts
    people.folder.mkdir(parents=True)
    provenance.write_json(people.folder / "manifest.json", {"inputs": people.inputs})
    assert people.is_done
    assert not reviews.is_done
    assert planned(workplace, monkeypatch, "engine.threads_per_rank=1").parts[0].is_done
    for override in ("tasks.people.epochs=4", "seed=1", 'engine.precision="bf16"'):
        assert not planned(workplace, monkeypatch, override).parts[0].is_done
    with (workplace / "valid.conll").open("a") as file:
        file.write("bob B-PER\n")
    assert not planned(workplace, monkeypatch).parts[0].is_done


def test_a_missing_encoder_names_both_ways_out(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (workplace / "recipe.toml").read_text()
    (workplace / "recipe.toml").write_text(text.replace('encoder = "encoder"\n', "", 1))
    with pytest.raises(RecipeError, match=r"set tasks\.people\.encoder .* or add \[model\]"):
        planned(workplace, monkeypatch)


def test_task_names_become_folders(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (workplace / "recipe.toml").read_text()
    (workplace / "recipe.toml").write_text(text.replace("[tasks.people]", '[tasks."../people"]'))
    with pytest.raises(RecipeError, match="becomes a folder"):
        planned(workplace, monkeypatch)


def test_recipe_problems_have_their_key(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(workplace, monkeypatch, "tasks.people.epoch=3", "tasks.reviews.metric='f1'")
    assert "did you mean `epochs`?" in str(caught.value)
    assert "tasks.reviews.metric" in str(caught.value)
    with pytest.raises(
        RecipeError, match=r"micro_batch_size \(4\) must not exceed batch_size \(2\)"
    ):
        planned(workplace, monkeypatch, "tasks.people.batch_size=2")


def run_cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "finetune", "recipe.toml", *arguments],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_dry_run_touches_nothing(workplace: Path) -> None:
    before = sorted(workplace.iterdir())
    done = run_cli(workplace, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "finetune.people: to do" in done.stdout
    assert "3 epochs in batches of 8, best by f1" in done.stdout
    assert sorted(workplace.iterdir()) == before


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ('tasks.people.test="absent.conll"', 3, "waits for absent.conll, which is missing"),
        ('tasks.people.encoder="./absent"', 3, "the encoder folder ./absent does not exist"),
        ('tasks.people.train="recipe.toml"', 3, "recipe.toml:2"),
        ("tasks.people.max_length=1000", 2, "exceeds the encoder's 64 positions"),
        ('tasks.reviews.labels=["pos", "other"]', 3, "label 'neg' is not in the label set"),
        ("tasks.reviews.batch_size=0", 2, "tasks.reviews.batch_size"),
        ('tasks.people.kind="nerr"', 2, "did you mean 'ner'?"),
    ],
)
def test_bad_input_is_one_clear_error(
    workplace: Path, override: str, code: int, message: str
) -> None:
    # The task under test comes first: nothing may be trained before it is found out.
    other = "people" if "reviews" in override else "reviews"
    text = (workplace / "recipe.toml").read_text()
    start = text.index(f"[tasks.{other}]")
    end = text.find("\n[", start)
    (workplace / "recipe.toml").write_text(text[:start] + text[end + 1 :])
    done = run_cli(workplace, override)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("textmill: ") == 1
    assert "Traceback" not in done.stderr
    assert not list((workplace / "run").rglob("manifest.json"))


def test_a_corpus_does_not_depend_on_how_labelled_rows_are_augmented(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    plain, auto = (
        data_plan.config_of(recipe.load(Path("recipe.toml"), overrides, Recipe))
        for overrides in ((), ("augment.auto=true", "augment.folds=3"))
    )
    assert plain == auto
    assert plain["augment"] == {"steps": []}
