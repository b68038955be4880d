"""What may be searched in a recipe, and what is refused before the first trial."""

from collections.abc import Callable

import pytest

from finetune.config import Recipe
from finetune.search import space
from finetune.search.table import Range
from runtime.errors import RecipeError

RecipeOf = Callable[..., Recipe]


def faults(recipe: Recipe, target: str = "people") -> str:
    with pytest.raises(RecipeError) as caught:
        space.check(recipe, target)
    return str(caught.value)


def test_the_target_is_named_unless_there_is_one(recipe_of: RecipeOf) -> None:
    assert space.target_of(recipe_of()) == "people"
    assert space.target_of(recipe_of('search.target="both"')) == "both"
    with pytest.raises(RecipeError, match="names 'place'; set it to one of: people, reviews, both"):
        space.target_of(recipe_of('search.target="place"'))
    unset = recipe_of()
    unset = unset.model_copy(update={"search": unset.search.model_copy(update={"target": None})})
    with pytest.raises(RecipeError, match=r"search\.target is not set"):
        space.target_of(unset)
    only = unset.model_copy(update={"multitask": {}, "tasks": {"people": unset.tasks["people"]}})
    assert space.target_of(only) == "people"


def test_of_several_tasks_the_first_is_judged(recipe_of: RecipeOf) -> None:
    recipe = recipe_of()
    assert space.tasks_of(recipe, "both") == ["people", "reviews"]
    assert space.metric_of(recipe, "both") == recipe.tasks["people"].metric
    assert space.tasks_of(recipe, "reviews") == ["reviews"]
    assert space.table_of(recipe, "both") is recipe.multitask["both"]


def test_an_empty_space_is_refused_with_an_example(recipe_of: RecipeOf) -> None:
    found = faults(recipe_of())
    assert "[search.space] is empty" in found
    assert '"tasks.people.learning_rate" = { low' in found


@pytest.mark.parametrize(
    ("key", "target", "message"),
    [
        ("sources.a.path", "people", "cannot be searched; settings of these tables can"),
        ("optimizer", "people", "cannot be searched"),
        ("optimizer.learning_rate", "people", "search tasks.people.learning_rate"),
        ("optimizer.weight_decay", "both", "search multitask.both.weight_decay"),
        ("tasks.reviews.epochs", "people", "does not belong to the target people"),
        ("multitask.both.epochs", "people", "its tables are: tasks.people"),
        ("tasks.people.metric", "people", "decides what is measured"),
        ("tasks.people.seeds", "people", "decides what is measured"),
        ("multitask.both.controls", "both", "decides what is measured"),
        ("tasks.people.epochs", "both", "search multitask.both.epochs"),
    ],
)
def test_settings_without_a_meaning(
    recipe_of: RecipeOf, key: str, target: str, message: str
) -> None:
    found = faults(recipe_of(f'search.space."{key}"={{values=[1, 2]}}'), target)
    assert f"{key}: " in found
    assert message in found


def test_values_are_checked_by_the_schema(recipe_of: RecipeOf) -> None:
    recipe = recipe_of(
        'search.space."tasks.people.epochs"={low=0, high=2}',
        'search.space."tasks.people.epoch"={low=1, high=2}',
        'search.space."optimizer.name"={values=["adamw", "sgd"]}',
    )
    found = faults(recipe)
    assert "tasks.people.epochs = 0: Input should be greater than 0" in found
    assert "did you mean `epochs`?" in found
    assert "optimizer.name = \"sgd\": Input should be 'adamw', 'stable_adamw' or 'muon'" in found


def test_a_value_that_another_setting_may_mend_is_left_to_the_trials(recipe_of: RecipeOf) -> None:
    small = 'search.space."tasks.people.batch_size"={values=[2, 8]}'
    assert "micro_batch_size (4) must not exceed batch_size (2)" in faults(recipe_of(small))
    both = recipe_of(small, 'search.space."tasks.people.micro_batch_size"={values=[2, 4]}')
    space.check(both, "people")
    with pytest.raises(RecipeError, match=r"batch_size 2, micro_batch_size 4 do not fit together"):
        space.with_values(both, {"tasks.people.batch_size": 2, "tasks.people.micro_batch_size": 4})


def test_weights_of_several_tasks_can_be_searched(recipe_of: RecipeOf) -> None:
    recipe = recipe_of('search.space."multitask.both.weights.reviews"={low=0.1, high=1.0}')
    space.check(recipe, "both")
    changed = space.with_values(recipe, {"multitask.both.weights.reviews": 0.25})
    assert changed.multitask["both"].weights == {"people": 1.0, "reviews": 0.25}
    assert recipe.multitask["both"].weights["reviews"] == 0.5


def test_points_of_a_grid() -> None:
    found = {"a": Range(low=1, high=5, step=2), "b": Range(values=("x", True))}
    assert space.points(found) == [
        {"a": 1, "b": "x"}, {"a": 1, "b": True}, {"a": 3, "b": "x"}, {"a": 3, "b": True},
        {"a": 5, "b": "x"}, {"a": 5, "b": True},
    ]  # fmt: skip
    assert space.values_of(Range(low=0.1, high=0.3, step=0.1)) == [0.1, 0.2, 0.3]
    assert space.values_of(Range(low=0.0, high=1.0, step=0.4)) == [0.0, 0.4, 0.8]


def test_words_for_people() -> None:
    assert space.described(Range(low=1e-5, high=1e-3, log=True)) == (
        "1e-05 to 0.001 by order of magnitude"
    )
    assert space.described(Range(low=1, high=9)) == "1 to 9 whole numbers"
    assert space.described(Range(low=1, high=9, step=2)) == "1 to 9 by 2"
    assert space.described(Range(values=("a", 2))) == "a, 2"
    assert space.shown({"tasks.a.epochs": 2, "tasks.a.learning_rate": 0.000123456}) == (
        "epochs 2, learning_rate 0.0001235"
    )
    assert space.shown({"tasks.a.epochs": 2, "tasks.b.epochs": 3}) == (
        "tasks.a.epochs 2, tasks.b.epochs 3"
    )
