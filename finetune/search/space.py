"""What a search may change in a recipe: checked before the first trial. Imports neither torch nor
optuna.

A setting is named by its key path and must belong to the target. Settings that decide what is
measured (data, metric, seeds), or that nothing of the target reads, are refused: scores of trials
must be comparable, and a setting without effect would look like one.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import tomli_w
from pydantic import ValidationError

from finetune.config import Recipe
from finetune.search.table import Range, Value
from finetune.task import Training
from runtime.errors import RecipeError
from runtime.recipe import apply_overrides, problems_of

TABLES = ("tasks", "multitask", "optimizer", "engine", "guard", "augment")
# What is measured, and on which rows.
FIXED = frozenset(
    {
        "kind",
        "metric",
        "valid",
        "valid_every",
        "test",
        "seeds",
        "alone",
        "controls",
        "control_random_init",
    }
)
# A task's or multi-task model's own settings take their place.
OVERRULED = {"optimizer.learning_rate": "learning_rate", "optimizer.weight_decay": "weight_decay"}


def target_of(recipe: Recipe) -> str:
    """The task or multi-task model that is searched. Raises RecipeError if it is not clear."""
    known = [*(name for name, task in recipe.tasks.items() if task.alone), *recipe.multitask]
    wanted = recipe.search.target
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in recipe.tasks or wanted in recipe.multitask:
        assert wanted is not None
        return wanted
    what = "is not set" if wanted is None else f"names {wanted!r}"
    raise RecipeError(
        f"search.target {what}; set it to one of: {', '.join(known) or '(no [tasks])'}"
    )


def table_of(recipe: Recipe, target: str) -> Training:
    """How the target is trained."""
    return recipe.multitask[target] if target in recipe.multitask else recipe.tasks[target]


def table_name(recipe: Recipe, target: str) -> str:
    """The key path of that table."""
    return f"{'multitask' if target in recipe.multitask else 'tasks'}.{target}"


def tasks_of(recipe: Recipe, target: str) -> list[str]:
    """The tasks the target is made of, the one whose metric is searched first."""
    return list(recipe.multitask[target].weights) if target in recipe.multitask else [target]


def metric_of(recipe: Recipe, target: str) -> str:
    """The metric of the target's task, or of its first one."""
    return str(recipe.tasks[tasks_of(recipe, target)[0]].metric)


def check(recipe: Recipe, target: str) -> None:
    """Raise RecipeError naming everything that is wrong with the space."""
    space = recipe.search.space
    if not space:
        raise RecipeError(
            "nothing to search: [search.space] is empty; name settings by their key path, for "
            f'example "tasks.{tasks_of(recipe, target)[0]}.learning_rate" = '
            "{ low = 1e-5, high = 1e-3, log = true }"
        )
    faults: list[str] = []
    for key, found in space.items():
        misplaced = fault_of_key(recipe, target, key)
        if misplaced:
            faults.append(f"{key}: {misplaced}")
        else:
            faults += faults_of_values(recipe, key, found)
    if faults:
        count = f"{len(faults)} problem" + ("s" if len(faults) > 1 else "")
        raise RecipeError(f"{count} in search.space\n" + "\n".join(f"  {line}" for line in faults))


def fault_of_key(recipe: Recipe, target: str, key: str) -> str | None:
    """Why a setting cannot be searched, if so."""
    table, _, rest = key.partition(".")
    if table not in TABLES or not rest:
        return f"cannot be searched; settings of these tables can: {', '.join(TABLES)}"
    if key in OVERRULED:
        return f"has no effect on fine-tuning; search {table_name(recipe, target)}.{OVERRULED[key]}"
    if table not in ("tasks", "multitask"):
        return None
    own = [f"tasks.{name}" for name in tasks_of(recipe, target)]
    own += [f"multitask.{target}"] if target in recipe.multitask else []
    name, _, field = rest.partition(".")
    if f"{table}.{name}" not in own or not field:
        return f"does not belong to the target {target}; its tables are: {', '.join(own)}"
    if field in FIXED:
        return "decides what is measured: scores of trials could not be compared"
    if table == "tasks" and target in recipe.multitask and field in Training.model_fields:
        return f"has no effect there; search multitask.{target}.{field}"
    return None


def faults_of_values(recipe: Recipe, key: str, found: Range) -> list[str]:
    """What the schema says of the ends of a range, or of each value of a list.

    A value that fits its field but not another setting is left to the trials if that other may be
    searched too: the fault is then one of the pair.
    """
    values = found.values if found.values is not None else (found.low, found.high)
    faults = []
    for value in values:
        assert value is not None
        data = with_overrides(recipe, {key: value})
        try:
            Recipe.model_validate_json(data)
        except ValidationError as error:
            for problem in problems_of(error, Recipe):
                path = ".".join(map(str, problem.path))
                table = key.rpartition(".")[0]
                others = [other for other in recipe.search.space if other != key]
                if path != key and any(other.startswith(f"{table}.") for other in others):
                    continue
                place = "" if path == key else f"{path}: "
                faults.append(f"{key} = {literal(value)}: {place}{problem.message}")
    return faults


def with_overrides(recipe: Recipe, values: Mapping[str, Value]) -> str:
    """The recipe with settings in place of its own, as JSON."""
    data = recipe.model_dump(mode="json", exclude_none=True)
    apply_overrides(data, [f"{key}={literal(value)}" for key, value in values.items()])
    return json.dumps(data)


def with_values(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """The recipe with settings in place of its own. Raises RecipeError if they do not fit."""
    try:
        return Recipe.model_validate_json(with_overrides(recipe, values))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, problem.path))}: {problem.message}"
            for problem in problems_of(error, Recipe)
        )
        raise RecipeError(f"{shown(values)} do not fit together: {told}") from None


def literal(value: Value) -> str:
    """A value as TOML writes it."""
    return tomli_w.dumps({"v": value}).partition("=")[2].strip()


def shown(values: Mapping[str, Any]) -> str:
    """Settings for a line of text, each by the last part of its key path that tells it apart."""
    lasts = [key.rpartition(".")[2] for key in values]
    names = [
        last if lasts.count(last) == 1 else key for key, last in zip(values, lasts, strict=True)
    ]
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in zip(names, values.values(), strict=True)
    )


def described(found: Range) -> str:
    """A range for a line of text."""
    if found.values is not None:
        return ", ".join(map(str, found.values))
    kind = "by order of magnitude" if found.log else f"by {found.step}" if found.step else ""
    whole = "whole numbers" if found.is_whole and not found.step else ""
    return " ".join([f"{found.low:g} to {found.high:g}", *filter(None, (whole, kind))])


def points(space: Mapping[str, Range]) -> list[dict[str, Value]]:
    """Every combination of a countable space, the last setting changing fastest."""
    choices = [values_of(found) for found in space.values()]
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*choices)]


def values_of(found: Range) -> list[Value]:
    """All values of a countable range."""
    if found.values is not None:
        return list(found.values)
    assert found.low is not None
    assert found.high is not None
    step = found.step or 1
    count = int((found.high - found.low) / step + 1e-9) + 1
    if found.is_whole:
        return [found.low + i * step for i in range(count)]
    # 0.1 + 2 * 0.1 is above 0.3 in binary, and so out of the range.
    return [min(float(f"{found.low + i * step:.12g}"), float(found.high)) for i in range(count)]
