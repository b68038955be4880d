"""Finding plug-ins by file name, by dotted path, and saying what is near when there is none."""

import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from runtime import plugins
from runtime.errors import RecipeError


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package `sample_steps` with two plug-ins, and a module `elsewhere.own` outside it."""
    for name in ("sample_steps", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('"""Made for a test."""\n')
    body = (
        "from runtime.recipe import RecipeTable\n\n"
        "class Params(RecipeTable):\n    step: str = ''\n    rate: float = 0.5\n"
    )
    for path in ("sample_steps/lower.py", "sample_steps/upper.py", "elsewhere/own.py"):
        (tmp_path / path).write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "sample_steps"
    for name in [name for name in sys.modules if name.startswith(("sample_steps", "elsewhere"))]:
        del sys.modules[name]


def test_a_file_in_the_folder_is_a_plug_in(group: str) -> None:
    assert plugins.names(group) == ["lower", "upper"]
    assert plugins.find(group, "lower").__name__ == "sample_steps.lower"


def test_a_dotted_path_names_one_elsewhere(group: str) -> None:
    assert plugins.find(group, "elsewhere.own").__name__ == "elsewhere.own"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lowr", "did you mean 'lower'?"),
        ("zzz", "known: lower, upper; or a dotted module path"),
        ("no.such.module", "known: lower, upper"),
    ],
)
def test_an_unknown_name_gets_a_hint(group: str, name: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        plugins.find(group, name)
    assert hint in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_table_is_checked_by_the_plug_in_it_names(group: str) -> None:
    check = plugins.TableCheck(group, "step", default="lower")
    assert check({"rate": 0.25}).rate == 0.25
    assert type(check({"step": "upper"})).__module__ == "sample_steps.upper"
    assert check("not a table") == "not a table"  # left to the type that follows
    with pytest.raises(ValueError, match="needs `step`, one of: lower, upper"):
        plugins.TableCheck(group, "step")({"rate": 0.25})


def test_errors_of_the_plug_in_keep_their_own_places(group: str) -> None:
    from typing import Annotated, Any

    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Any, plugins.table(group, "step")])
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python({"step": "lower", "rate": "fast"})
    inner = caught.value.errors()[0]["ctx"]["plugin_error"]
    assert inner.errors()[0]["loc"] == ("rate",)
