"""Plug-ins: a module in the right folder, found by its file name; a dotted path names one
elsewhere.

A plug-in module has a `Params` table and the functions its folder's contract asks for. There is no
registry: `names` lists the folder, `find` imports the module, `table` lets a recipe table be
checked by its plug-in.
"""

import difflib
import json
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from pydantic import BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

from runtime.errors import RecipeError


def names(group: str) -> list[str]:
    """The plug-ins of a folder, for example `names("data_prep.readers")`."""
    folder = import_module(group)
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__))


def find(group: str, name: str) -> ModuleType:
    """Import a plug-in by file name, or by dotted path if it lives outside this project.

    Raises RecipeError with the closest known name.
    """
    dotted = name if "." in name else f"{group}.{name}"
    try:
        known = find_spec(dotted) is not None
    except ModuleNotFoundError:
        known = False
    if not known:
        options = names(group)
        close = difflib.get_close_matches(name, options, n=1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"known: {', '.join(options)}; or a dotted module path"
        )
        raise RecipeError(f"no plug-in {name!r} in {group}; {hint}")
    return import_module(dotted)


@dataclass(frozen=True)
class TableCheck:
    """Checks a recipe table with the `Params` of the plug-in that its `key` names."""

    group: str
    key: str
    default: str | None = None

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        name = value.get(self.key, self.default)
        if not isinstance(name, str):
            raise ValueError(f"needs `{self.key}`, one of: {', '.join(names(self.group))}")
        try:
            schema = find(self.group, name).Params
        except RecipeError as error:
            raise ValueError(str(error)) from None
        try:
            # JSON mode: see runtime.recipe.load.
            return schema.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise PydanticCustomError(
                "plugin_params",
                "does not fit the plug-in",
                {"plugin_error": error, "plugin_schema": schema},
            ) from None


def table(group: str, key: str, default: str | None = None) -> BeforeValidator:
    """A validator that checks a recipe table with the `Params` of the plug-in that its `key`
    names."""
    return BeforeValidator(TableCheck(group, key, default))
