"""When the recipe's own run of a task is the control, and what a task is trained with."""

from pathlib import Path

import pytest

from finetune.multitask import controls
from finetune.multitask.prepare import prepare, with_settings
from finetune.plan import plan_task
from finetune.task import Training
from runtime import provenance
from runtime.errors import RecipeError
from tests.finetune.multitask.conftest import loaded

SAME = (
    'tasks.people.encoder="encoder"',
    "tasks.people.batch_size=8",
    "tasks.people.micro_batch_size=4",
)


def as_if_done(folder: Path, *overrides: str) -> Path:
    """Write the manifest that a finished run of `people` would."""
    recipe = loaded(folder, *overrides)
    plan = plan_task(recipe, "people", recipe.tasks["people"])
    plan.folder.mkdir(parents=True)
    provenance.write_json(plan.folder / "manifest.json", {"inputs": plan.inputs})
    return plan.folder


def found(folder: Path, *overrides: str) -> Path | None:
    recipe = loaded(folder, *overrides)
    return controls.done_alone(recipe, prepare(recipe, "both"), "people")


def test_a_finished_run_with_the_same_settings_is_the_control(folder: Path) -> None:
    assert found(folder, *SAME) is None  # not done
    done = as_if_done(folder, *SAME)
    assert found(folder, *SAME) == done


@pytest.mark.parametrize(
    "other",
    [
        "tasks.people.epochs=9",
        "tasks.people.learning_rate=1e-3",
        "tasks.people.seeds=[1, 2]",
        "tasks.people.alone=false",
    ],
)
def test_a_run_with_other_settings_is_none(folder: Path, other: str) -> None:
    as_if_done(folder, *SAME, other)
    assert found(folder, *SAME, other) is None


def test_seeds_that_are_named_twice_are_the_same(folder: Path) -> None:
    """The recipe's seed, said here and left out there."""
    named = ("tasks.people.seeds=[0]", *SAME)
    as_if_done(folder, *named)
    assert found(folder, *named) is not None


def test_tasks_are_trained_as_the_table_says(folder: Path) -> None:
    recipe = loaded(folder, "multitask.both.epochs=9", "tasks.people.window_overlap=7")
    several = prepare(recipe, "both")
    for task in several.tasks:
        assert {name: getattr(task.task, name) for name in Training.model_fields} == {
            name: getattr(several.table, name) for name in Training.model_fields
        }
    assert several.main.task.window_overlap == 7
    assert several.names == ["people", "reviews"]
    assert recipe.tasks["people"].epochs == 4  # the recipe is left as it is
    assert with_settings(recipe, several.table).tasks["people"].epochs == 9


def test_a_length_that_the_encoder_has_no_positions_for(folder: Path) -> None:
    recipe = loaded(folder, "multitask.both.max_length=65")
    with pytest.raises(RecipeError, match=r"multitask\.both\.max_length \(65\) exceeds .* 64"):
        prepare(recipe, "both")
