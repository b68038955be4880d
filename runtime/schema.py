"""The recipe's reference, generated from the models: JSON schema for editors, Markdown for people.

    python -m runtime.schema docs/      # writes recipe.schema.json and recipe.md

The meaning of a field is the comment that follows it in the source, so it is written once. A table
that a plug-in checks becomes one alternative for each plug-in of its folder. An editor completes a
recipe that begins with `#:schema ../docs/recipe.schema.json`.
"""

import ast
import inspect
import io
import sys
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runtime import plugins, provenance
from runtime.recipe import FULL_SCHEMA, table_type

JsonSchema = dict[str, Any]
EXAMPLE_NAMES = {"sources": "sources.NAME", "tasks": "tasks.NAME"}


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0])
    provenance.write_json(folder / "recipe.schema.json", json_schema())
    provenance.write_text(folder / "recipe.md", markdown())


def recipe_model() -> type[BaseModel]:
    """The complete recipe, found by name as `runtime.recipe` does."""
    module, _, name = FULL_SCHEMA.partition(":")
    model: type[BaseModel] = getattr(import_module(module), name)
    return model


@cache
def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment of every field of a model: its own, else that of the class it inherits from."""
    found: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            found.update(own_comments(parent))
    return {name: found[name] for name in model.model_fields if name in found}


def own_comments(model: type[BaseModel]) -> dict[str, str]:
    """The comments directly above each field declared in the class body, and on its lines."""
    source = textwrap.dedent(inspect.getsource(model))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token for token in tokens if token.type == tokenize.COMMENT]
    by_line = {token.start[0]: token.string.lstrip("# ").strip() for token in found}
    whole_lines = {token.start[0] for token in found if not token.line[: token.start[1]].strip()}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    meanings = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in whole_lines:
                first -= 1
            lines = range(first, (node.end_lineno or node.lineno) + 1)
            words = [by_line[line] for line in lines if line in by_line]
            if words:
                meanings[node.target.id] = " ".join(words)
    return meanings


def plugin_check(field: FieldInfo) -> plugins.TableCheck | None:
    """The plug-in check of a field, or inside it: `dict[str, Annotated[Task, table(...)]]`."""
    return next(checks_in([*field.metadata, field.annotation]), None)


def checks_in(annotations: Iterable[Any]) -> Iterator[plugins.TableCheck]:
    for annotation in annotations:
        check = getattr(annotation, "func", None)
        if isinstance(check, plugins.TableCheck):
            yield check
        yield from checks_in(get_args(annotation))


def variants(check: plugins.TableCheck) -> dict[str, type[BaseModel]]:
    """The `Params` of every plug-in in the folder, by plug-in name."""
    return {name: plugins.find(check.group, name).Params for name in plugins.names(check.group)}


def tables_below(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a model that are tables."""
    found = {name: table_type(field.annotation) for name, field in model.model_fields.items()}
    return {name: table for name, table in found.items() if table is not None}


def json_schema() -> JsonSchema:
    """The JSON schema of the complete recipe, plug-ins and field comments included."""
    model = recipe_model()
    schema: JsonSchema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Textmill recipe",
        **described(model),
    }
    return schema


def described(model: type[BaseModel]) -> JsonSchema:
    """The schema of one table with everything below it in place: no references, no titles."""
    schema = model.model_json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    schema = {key: value for key, value in schema.items() if key != "title"}
    properties = {}
    for name, field in model.model_fields.items():
        found = inlined(schema["properties"][name], definitions, tables_below(model).get(name))
        found = with_variants(found, plugin_check(field))
        if name in comments(model):
            found["description"] = comments(model)[name]
        properties[name] = found
    return {**schema, "properties": properties}


def inlined(schema: Any, definitions: JsonSchema, table: type[BaseModel] | None) -> Any:
    """Replace the reference to a table by the table itself and drop what editors do not need."""
    if isinstance(schema, list):
        return [inlined(inner, definitions, table) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        if table is None:
            return definitions[schema["$ref"].rpartition("/")[2]]
        return described(table)
    return {
        key: inlined(value, definitions, table)
        for key, value in schema.items()
        if key not in ("title", "default") or (key == "default" and not holds_table(value))
    }


def holds_table(default: Any) -> bool:
    return isinstance(default, dict) and bool(default)


def with_variants(schema: JsonSchema, check: plugins.TableCheck | None) -> JsonSchema:
    """Put one alternative for each plug-in where the shared table of the plug-ins stands."""
    if check is None:
        return schema
    if isinstance(schema.get("properties"), dict) and check.key in schema["properties"]:
        return {"anyOf": [*known_variants(check), outside_variant(check)]}
    changed = dict(schema)
    for place in ("additionalProperties", "items"):
        if isinstance(changed.get(place), dict):
            changed[place] = with_variants(changed[place], check)
    if isinstance(changed.get("patternProperties"), dict):
        changed["patternProperties"] = {
            pattern: with_variants(inner, check)
            for pattern, inner in changed["patternProperties"].items()
        }
    return changed


def known_variants(check: plugins.TableCheck) -> list[JsonSchema]:
    found: list[JsonSchema] = []
    for name, params in variants(check).items():
        schema = described(params)
        schema["properties"][check.key] = {
            "const": name,
            "description": first_line(inspect.getmodule(params)),
        }
        required = set(schema.get("required", ()))
        required = required - {check.key} if name == check.default else required | {check.key}
        found.append({**schema, "required": sorted(required)})
    return found


def outside_variant(check: plugins.TableCheck) -> JsonSchema:
    """A plug-in that lives outside this project: its options are unknown here."""
    key = {"type": "string", "pattern": r"\.", "description": "dotted path of a module elsewhere"}
    return {"type": "object", "properties": {check.key: key}, "required": [check.key]}


def first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def markdown() -> str:
    """The reference page: a section for every table, a row for every key."""
    parts = [
        "# Recipes",
        "Generated by `make docs` from the models and the comments of their fields; do not edit. "
        "How a recipe is read, overridden and checked: `runtime/recipe.py`. "
        "Editors complete from `recipe.schema.json`: begin a recipe with "
        "`#:schema ../docs/recipe.schema.json`. A key without a default (–) may be left out: that "
        "is what `None` stands for.",
    ]
    model = recipe_model()
    top = [name for name in model.model_fields if name not in tables_below(model)]
    parts += ["## The file itself", key_table(model, top)]
    for name, table in tables_below(model).items():
        parts += section(name, model, table)
    return "\n\n".join(parts) + "\n"


def section(name: str, model: type[BaseModel], table: type[BaseModel]) -> list[str]:
    """One table of the recipe, and a section for each plug-in that extends it."""
    check = plugin_check(model.model_fields[name])
    parts = [f"## [{EXAMPLE_NAMES.get(name, name)}]", first_paragraphs(table)]
    if name in comments(model):
        parts.append(f"`[{EXAMPLE_NAMES.get(name, name)}]`: {comments(model)[name]}.")
    parts.append(key_table(table, list(table.model_fields)))
    if check is not None:
        parts += plugin_sections(check, table)
    for inner_name, inner in tables_below(table).items():
        inner_check = plugin_check(table.model_fields[inner_name])
        if inner_check is not None:
            parts += plugin_sections(inner_check, inner)
        else:
            parts += [f"### [{name}.{inner_name}]", first_paragraphs(inner)]
            parts.append(key_table(inner, list(inner.model_fields)))
    return parts


def plugin_sections(check: plugins.TableCheck, shared: type[BaseModel]) -> list[str]:
    parts = []
    for name, params in variants(check).items():
        parts += [f'### {check.key} = "{name}"', first_line(inspect.getmodule(params))]
        fields = [field for field in params.model_fields if field != check.key]
        own = [field for field in fields if is_own(field, params, shared)]
        parts.append(key_table(params, own) if own else "No keys of its own.")
    return parts


def is_own(field: str, params: type[BaseModel], shared: type[BaseModel]) -> bool:
    """True if a plug-in adds the field or changes its type or default."""
    if field not in shared.model_fields:
        return True
    ours, theirs = params.model_fields[field], shared.model_fields[field]
    return (ours.annotation, ours.default) != (theirs.annotation, theirs.default)


def first_paragraphs(model: type[BaseModel]) -> str:
    return inspect.getdoc(model) or ""


def key_table(model: type[BaseModel], names: list[str]) -> str:
    """The keys as a Markdown table."""
    properties = described(model)["properties"]
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        default = "required" if field.is_required() else default_text(field.get_default())
        cells = (f"`{name}`", type_text(properties[name]), default, comments(model).get(name, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def default_text(default: Any) -> str:
    if default is None or isinstance(default, BaseModel):
        return "–"
    if isinstance(default, str):
        return f'`"{default}"`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, (list, tuple)):
        return f"`{list(default)}`"
    return "–" if default in ({}, ...) or callable(default) else f"`{default}`"


def type_text(schema: JsonSchema) -> str:
    """A JSON schema type in words."""
    if "anyOf" in schema:
        options = [type_text(inner) for inner in schema["anyOf"] if inner.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    kind = str(schema.get("type", "any"))
    if kind == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"array of {type_text(inner)}" if isinstance(inner, dict) else "array"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"table of {type_text(inner)}" if isinstance(inner, dict) else "table"
    if schema.get("format") == "path":
        return "path"
    return {"number": "float"}.get(kind, kind) + limits(schema)


def limits(schema: JsonSchema) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    found = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(found)}" if found else ""


if __name__ == "__main__":
    main(sys.argv[1:])
