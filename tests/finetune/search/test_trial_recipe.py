"""The recipe of a trial: no test rows, nothing that another trial writes to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.config import Recipe
from finetune.search import trial_recipe
from finetune.search.table import Search
from runtime import recipe
from runtime.errors import RecipeError
from runtime.recipe import to_toml

RecipeOf = Callable[..., Recipe]
FOLDER = Path("run/finetune/search/people/trials/7")
RATE = "tasks.people.learning_rate"


def test_a_trial_is_the_target_alone_without_test_rows(recipe_of: RecipeOf) -> None:
    found = trial_recipe.of(recipe_of(), "people", {RATE: 2e-3}, FOLDER, 11, 2)
    assert list(found.tasks) == ["people"]
    task = found.tasks["people"]
    assert task.learning_rate == 2e-3
    assert task.epochs == 3
    assert (task.train, task.valid, task.test) == (Path("train.conll"), Path("valid.conll"), None)
    assert task.seeds == (11,)
    assert not task.control_random_init
    assert found.output == FOLDER
    assert found.seed == 3
    assert found.optimizer.clip_norm == 2.0
    assert found.engine.precision == "fp32"
    assert found.engine.threads_per_rank == 2
    assert not found.export.onnx
    assert found.multitask == {}
    assert found.search == Search()
    assert found.checkpoint.keep_last == 1


def test_threads_of_the_recipe_stay(recipe_of: RecipeOf) -> None:
    given = recipe_of("engine.threads_per_rank=5")
    assert trial_recipe.of(given, "people", {}, FOLDER, 0, 2).engine.threads_per_rank == 5
    none = trial_recipe.of(recipe_of(), "people", {}, FOLDER, 0, None)
    assert none.engine.threads_per_rank is None


def test_the_encoder_is_named_since_a_trial_has_another_output(recipe_of: RecipeOf) -> None:
    found = trial_recipe.of(recipe_of(), "reviews", {}, FOLDER, 0, None)
    assert found.tasks["reviews"].encoder == "run/pretrain/export"


def test_several_tasks_are_trained_together_only(recipe_of: RecipeOf) -> None:
    values = {"multitask.both.weights.reviews": 0.25, "multitask.both.epochs": 2}
    found = trial_recipe.of(recipe_of(), "both", values, FOLDER, 11, None)
    table = found.multitask["both"]
    assert table.weights == {"people": 1.0, "reviews": 0.25}
    assert (table.epochs, table.seeds, table.encoder) == (2, (11,), "encoder")
    assert not table.controls
    assert [(name, task.alone, task.test) for name, task in found.tasks.items()] == [
        ("people", False, None),
        ("reviews", False, None),
    ]


def test_values_that_do_not_fit_are_named(recipe_of: RecipeOf) -> None:
    with pytest.raises(RecipeError, match=r"batch_size 2 do not fit together: .*must not exceed"):
        trial_recipe.of(recipe_of(), "people", {"tasks.people.batch_size": 2}, FOLDER, 0, None)


def test_the_file_is_read_back_the_same(recipe_of: RecipeOf, tmp_path: Path) -> None:
    found = trial_recipe.of(recipe_of(), "both", {}, FOLDER, 0, 1)
    path = tmp_path / "trial.toml"
    path.write_text(to_toml(found))
    assert recipe.load(path, (), Recipe) == found


def test_rows_of_a_data_set_become_files_once(
    recipe_of: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "train.jsonl").write_text(json.dumps({"text": "good", "label": "pos"}) + "\n")
    source = f'{{dataset="{rows}", split="train"}}'
    found = trial_recipe.of(
        recipe_of(f"tasks.reviews.train={source}"), "reviews", {}, FOLDER, 0, None
    )
    assert isinstance(found.tasks["reviews"].train, Path)
    assert json.loads(found.tasks["reviews"].train.read_text())["label"] == "pos"
    assert found.tasks["reviews"].train.is_relative_to("run/finetune/inputs")


def test_seeds(recipe_of: RecipeOf) -> None:
    assert trial_recipe.seed_of(recipe_of(), "people") == 3
    assert trial_recipe.seed_of(recipe_of("tasks.people.seeds=[8, 9]"), "people") == 8


def test_the_winner_is_the_whole_recipe_and_searches_no_more(recipe_of: RecipeOf) -> None:
    given = recipe_of()
    found = trial_recipe.winner(given, {RATE: 2e-3})
    assert found.tasks["people"].learning_rate == 2e-3
    assert found.tasks["people"].test == Path("test.conll")
    assert found.tasks["reviews"] == given.tasks["reviews"]
    assert found.output == given.output
    assert found.search == Search()
