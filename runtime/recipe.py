"""Recipes: read one TOML file, apply overrides, check everything, report every problem at once.

`load` does, in order: parse the file, apply `key.path=value` overrides (TOML values), expand
`${NAME}` and `${NAME:-fallback}` from the environment, validate against the schema of all stages. A
stage sees the tables of its own package and those to its left; tables further right are validated
too, because `load` always checks the complete schema, which is found by name (`FULL_SCHEMA`) so
that the import direction stays right to left. Relative paths in a recipe are relative to the
current directory, as on any command line.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import RecipeError

FULL_SCHEMA = "finetune.config:Recipe"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class RecipeTable(BaseModel):
    """A table of a recipe: unknown keys are errors, types are not coerced, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


R = TypeVar("R", bound=RecipeTable)
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe."""

    path: KeyPath
    message: str


def load(path: Path, overrides: Sequence[str], schema: type[R]) -> R:
    """Return the checked recipe as `schema` sees it.

    Raises RecipeError naming every problem with its key path, its line or override, and a
    suggestion.
    """
    text = read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from None
    assigned = apply_overrides(data, overrides)
    problems: list[Problem] = []
    data = expand(data, (), problems)
    full = full_schema(schema)
    recipe = None
    try:
        # JSON mode keeps types strict and still reads a string as a Path and an array as a tuple.
        recipe = full.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        problems += problems_of(error, full)
    if problems or recipe is None:
        raise RecipeError(describe(problems, path, text, assigned))
    return recipe


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe {path} is not UTF-8: {error}") from None


def full_schema(schema: type[R]) -> type[R]:
    """The schema of all stages, which must extend what the caller asked for."""
    module, _, name = FULL_SCHEMA.partition(":")
    full = getattr(import_module(module), name)
    return cast(type[R], full) if issubclass(full, schema) else schema


def apply_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[KeyPath, str]:
    """Set `key.path=value` in `data`; return which key paths came from which override."""
    assigned: dict[KeyPath, str] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        try:
            if not equals:
                raise tomllib.TOMLDecodeError("no '='")
            parsed = tomllib.loads(f"{key.strip()} = {value.strip()}")
        except tomllib.TOMLDecodeError as error:
            hint = f"'{key}=\"{value}\"'" if equals else "train.total_tokens=1000000"
            raise RecipeError(
                f"override {override!r} is not `key.path=value` in TOML syntax ({error}); "
                f"a string needs quotes, for example {hint}"
            ) from None
        path: KeyPath = ()
        table = data
        while True:
            ((name, inner),) = parsed.items()
            path += (name,)
            if not isinstance(inner, dict) or len(path) == depth_of(key):
                table[name] = inner
                break
            nested = table.setdefault(name, {})
            if not isinstance(nested, dict):
                raise RecipeError(
                    f"override {override!r}: {'.'.join(map(str, path))} is not a table"
                )
            table, parsed = nested, inner
        assigned[path] = override
    return assigned


def depth_of(key: str) -> int:
    """How many parts a key path in TOML syntax has; a quoted part may hold dots."""
    inner: Any = tomllib.loads(f"{key.strip()} = 0")
    depth = 0
    while isinstance(inner, dict):
        (inner,) = inner.values()
        depth += 1
    return depth


def expand(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """Replace `${NAME}` in every string; a name that is not set and has no fallback is a
    problem."""
    if isinstance(value, dict):
        return {key: expand(inner, (*path, key), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, (*path, i), problems) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, fallback = match.groups()
        found = os.environ.get(name, fallback)
        if found is None:
            problems.append(
                Problem(
                    path,
                    f"environment variable {name} is not set; "
                    f"set it or write ${{{name}:-fallback}}",
                )
            )
            return match.group()
        return found

    return VARIABLE.sub(replace, value)


def problems_of(
    error: ValidationError, schema: type[BaseModel], prefix: KeyPath = ()
) -> list[Problem]:
    """Flatten a validation error; tables checked by a plug-in carry their own error inside."""
    problems = []
    for detail in error.errors():
        path = prefix + detail["loc"]
        inner = detail.get("ctx", {}).get("plugin_error")
        if isinstance(inner, ValidationError):
            problems += problems_of(inner, detail["ctx"]["plugin_schema"], path)
        elif detail["type"] == "extra_forbidden":
            problems.append(
                Problem(path, unknown_key(str(path[-1]), fields_at(schema, detail["loc"][:-1])))
            )
        elif detail["type"] == "missing":
            problems.append(Problem(path, "is required and missing"))
        else:
            message = detail["msg"].removeprefix("Value error, ")
            given = "" if isinstance(detail["input"], dict) else f" (given: {detail['input']!r})"
            problems.append(Problem(path, message + given))
    return problems


def unknown_key(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return "unknown key; " + (
        f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(sorted(known))}"
    )


def fields_at(schema: type[BaseModel], path: KeyPath) -> list[str]:
    """The field names of the table that `path` leads to."""
    found: Any = schema
    for key in path:
        fields = getattr(found, "model_fields", {})
        found = table_type(fields[key].annotation if key in fields else found)
    return list(getattr(found, "model_fields", {}))


def table_type(annotation: Any) -> Any:
    """The table inside `X | None`, `dict[str, X]`, `list[X]`, `Annotated[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = table_type(inner)
        if found is not None:
            return found
    return None


def describe(
    problems: Sequence[Problem], path: Path, text: str, assigned: Mapping[KeyPath, str]
) -> str:
    """All problems of one recipe, in file order, each with the place to look at."""
    located = [(line_of(text, problem.path), problem) for problem in problems]
    rows = []
    for line, problem in sorted(located, key=lambda row: row[0]):
        source = next(
            (
                f"override {assigned[problem.path[:n]]}"
                for n in range(len(problem.path), 0, -1)
                if problem.path[:n] in assigned
            ),
            None,
        )
        place = source or f"line {line}"
        rows.append(
            f"  {'.'.join(map(str, problem.path)) or 'recipe'} ({place}): {problem.message}"
        )
    count = f"{len(rows)} problem" + ("s" if len(rows) > 1 else "")
    return f"{count} in {path}\n" + "\n".join(rows)


def line_of(text: str, path: KeyPath) -> int:
    """The line on which the longest known part of `path` is first set (1-based).

    tomllib gives no positions, so the shortest parseable beginning of the file that holds the key
    is found.
    """
    lines = text.splitlines()
    best_depth, best_line, start = 0, 1, 1
    for end in range(1, len(lines) + 1):
        try:
            data: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        depth = 0
        for key in path:
            try:
                data = data[key]
            except (KeyError, IndexError, TypeError):
                break
            depth += 1
        if depth > best_depth:
            best_depth, best_line = depth, start
        start = end + 1
    return best_line


def to_toml(recipe: RecipeTable) -> str:
    """The resolved recipe: every default written out, loadable again."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))
