"""The generated reference: current, complete, and in agreement with the shipped recipes."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from runtime import schema
from runtime.recipe import RecipeTable

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


def all_tables(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Every table of the recipe, those of plug-ins included."""
    found = {model}
    for name, table in schema.tables_below(model).items():
        check = schema.plugin_check(model.model_fields[name])
        inner = [table] if check is None else [table, *schema.variants(check).values()]
        for each in inner:
            found |= all_tables(each)
    return found


def test_every_field_of_every_table_has_a_comment() -> None:
    silent = [
        f"{table.__module__}.{table.__name__}.{name}"
        for table in sorted(all_tables(schema.recipe_model()), key=str)
        for name in table.model_fields
        if name not in schema.comments(table) and name not in schema.tables_below(table)
    ]
    assert not silent


def test_every_table_says_what_it_is() -> None:
    silent = [str(table) for table in all_tables(schema.recipe_model()) if not own_doc(table)]
    assert not silent


def own_doc(table: type[BaseModel]) -> str | None:
    return table.__dict__.get("__doc__")


def test_the_files_in_docs_are_current(root: Path) -> None:
    command = "run `make docs` and commit the result"
    written = json.loads((root / "docs/recipe.schema.json").read_text(encoding="utf-8"))
    assert written == schema.json_schema(), command
    assert (root / "docs/recipe.md").read_text(encoding="utf-8") == schema.markdown(), command


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.json_schema())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_fit_the_schema(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema.json_schema())
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize("change", [{"nam": "x"}, {"seed": "0"}, {"engine": {"precision": "fp8"}}])
def test_the_schema_refuses_what_the_recipe_refuses(change: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema.json_schema())
    data = {"name": "x", "output": "y"}
    assert validator.is_valid(data)
    assert not validator.is_valid(data | change)


class Parent(RecipeTable):
    kind: str  # of plug-in
    size: int = 3  # in bytes


class Child(Parent):
    kind: Literal["child"] = "child"
    long: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.5,  # first part
    )  # second part
    # above,
    # in two lines
    listed: bool = True

    plain: str | None = None


def test_comments_come_from_the_source_and_are_inherited() -> None:
    assert schema.comments(Child) == {
        "kind": "of plug-in",
        "size": "in bytes",
        "long": "first part second part",
        "listed": "above, in two lines",
    }


def test_keys_are_described_in_words() -> None:
    assert schema.key_table(Child, ["kind", "size", "long", "plain"]).splitlines()[2:] == [
        '| `kind` | `"child"` | `"child"` | of plug-in |',
        "| `size` | integer | `3` | in bytes |",
        "| `long` | float > 0, < 1 | `0.5` | first part second part |",
        "| `plain` | string | – |  |",
    ]
