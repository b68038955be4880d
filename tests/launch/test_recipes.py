"""Every shipped recipe is complete and correct; none repeats another."""

import difflib
from pathlib import Path

import pytest

import finetune.config
from runtime import stages
from runtime.config import Recipe
from runtime.recipe import load, to_toml
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEXTMILL_DATA", "TEXTMILL_ENCODER", "TEXTMILL_MODEL", "TEXTMILL_OUTPUT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_loads(path: Path) -> None:
    recipe = load(path, [], Recipe)
    assert recipe.name == path.stem
    assert any(stages.is_wanted(stage, recipe) for stage in stages.STAGES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_resolved_copy_loads_as_the_same(path: Path, tmp_path: Path) -> None:
    recipe = load(path, [], finetune.config.Recipe)
    copy = tmp_path / "recipe.toml"
    copy.write_text(to_toml(recipe), encoding="utf-8")
    assert load(copy, [], finetune.config.Recipe) == recipe


def test_what_is_promised_is_shipped() -> None:
    assert {path.stem for path in RECIPES} >= {
        "quickstart",
        "quickstart-hub",
        "english",
        "chinese",
        "biomedical",
        "continued",
        "modernbert-base",
        "modernbert-small",
        "ner",
        "classification",
    }


def test_recipes_are_not_copies_of_each_other() -> None:
    texts = {path.stem: path.read_text().splitlines() for path in RECIPES}
    shares = {
        (a, b): difflib.SequenceMatcher(None, texts[a], texts[b]).ratio()
        for a in texts
        for b in texts
        if a < b
    }
    assert max(shares.values()) < 0.75, max(shares, key=lambda pair: shares[pair])
