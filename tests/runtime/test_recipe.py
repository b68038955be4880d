"""Reading recipes: every problem at once, with place and suggestion; overrides; round trip."""

from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from pydantic import Field, SerializeAsAny, model_validator

from runtime import config, plugins, recipe
from runtime.errors import RecipeError
from runtime.recipe import RecipeTable


class Train(RecipeTable):
    steps: int = 10
    learning_rate: float = 1e-3
    shape: Literal["linear", "cosine"] = "linear"
    betas: tuple[float, float] = (0.9, 0.98)
    folder: Path | None = None

    @model_validator(mode="after")
    def steps_fit(self) -> Self:
        if self.steps > 100:
            raise ValueError(f"steps ({self.steps}) must not exceed 100")
        return self


class Source(RecipeTable):
    reader: str
    path: str


class Recipe(RecipeTable):
    name: str
    train: Train = Train()
    sources: dict[
        str, Annotated[SerializeAsAny[Source], plugins.table("data_prep.readers", "reader")]
    ] = Field(default_factory=dict)


@pytest.fixture(autouse=True)
def complete_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests bring their own schema, so the stages' tables do not matter here."""
    monkeypatch.setattr(recipe, "full_schema", lambda schema: schema)


def load(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return recipe.load(path, overrides, Recipe)


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, *overrides)
    head, *rows = str(caught.value).splitlines()
    assert head.endswith(f"in {tmp_path / 'recipe.toml'}"), head
    assert head.startswith(f"{len(rows)} problem")
    return [row.strip() for row in rows]


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = load(tmp_path, 'name = "x"\n[train]\nlearning_rate = 3e-4\nfolder = "a/b"\n')
    assert found.train == Train(learning_rate=3e-4, folder=Path("a/b"))


def test_all_problems_are_reported_at_once_in_file_order(tmp_path: Path) -> None:
    text = '\n[train]\nstepz = 5\nlearning_rate = "3e-4"\nshape = "cosin"\n\n[packing]\nx = 1\n'
    missing, key, kind, choice, table = problems(tmp_path, text)
    assert missing == "name (line 1): is required and missing"
    assert key == "train.stepz (line 3): unknown key; did you mean `steps`?"
    assert kind.startswith("train.learning_rate (line 4): Input should be a valid number")
    assert kind.endswith("(given: '3e-4')")
    assert choice.startswith("train.shape (line 5): Input should be 'linear' or 'cosine'")
    assert table == "packing (line 7): unknown key; known here: name, sources, train"


def test_values_are_never_coerced(tmp_path: Path) -> None:
    (row,) = problems(tmp_path, 'name = "x"\ntrain.steps = "7"\n')
    assert row.startswith("train.steps (line 2): Input should be a valid integer")
    (row,) = problems(tmp_path, "name = 5\n")
    assert row.startswith("name (line 1): Input should be a valid string")
    (row,) = problems(tmp_path, 'name = "x"\ntrain.steps = 2.5\n')
    assert row.startswith("train.steps (line 2): Input should be a valid integer")


def test_combinations_that_cannot_work_name_their_table(tmp_path: Path) -> None:
    (row,) = problems(tmp_path, 'name = "x"\n\n[train]\nsteps = 200\n')
    assert row == "train (line 3): steps (200) must not exceed 100"


def test_the_line_of_an_array_and_of_a_dotted_key(tmp_path: Path) -> None:
    rows = problems(tmp_path, 'name = "x"\n[train]\nsteps = 3\nbetas = [\n  0.9,\n  "b",\n]\n')
    assert rows[0].startswith("train.betas.1 (line 4): Input should be a valid number")


def test_overrides_use_toml_values(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        'name = "x"\n',
        "train.steps=7",
        "train.learning_rate = 1e-5",
        'name="y=z"',
        "train.betas=[0.8, 0.9]",
    )
    assert found == Recipe(name="y=z", train=Train(steps=7, learning_rate=1e-5, betas=(0.8, 0.9)))


def test_an_override_can_set_a_whole_table(tmp_path: Path) -> None:
    text = 'name = "x"\n[train]\nlearning_rate = 0.5\n'
    found = load(tmp_path, text, 'train={steps = 4, shape = "cosine"}')
    assert found.train == Train(steps=4, shape="cosine")


def test_a_quoted_key_may_hold_dots() -> None:
    data: dict[str, object] = {}
    recipe.apply_overrides(data, ['space."tasks.a.rate"={low = 1, high = 2}', 'space."b.c".low=3'])
    assert data == {"space": {"tasks.a.rate": {"low": 1, "high": 2}, "b.c": {"low": 3}}}


def test_a_problem_of_an_override_names_the_override(tmp_path: Path) -> None:
    (row,) = problems(tmp_path, 'name = "x"\n', "train.stepz=7")
    assert row == "train.stepz (override train.stepz=7): unknown key; did you mean `steps`?"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps", "is not `key.path=value`"),
        ("train.shape=cosine", "a string needs quotes, for example 'train.shape=\"cosine\"'"),
        ("name.steps=1", "name is not a table"),
    ],
)
def test_overrides_that_cannot_be_read(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, 'name = "x"\n', override)
    assert words in str(caught.value)
    assert override in str(caught.value)


def test_environment_variables_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORPORA", "/data")
    monkeypatch.delenv("ABSENT", raising=False)
    text = 'name = "${ABSENT:-fall back}"\ntrain.folder = "${CORPORA}/wiki"\n'
    found = load(tmp_path, text)
    assert found.name == "fall back"
    assert found.train.folder == Path("/data/wiki")


def test_an_absent_environment_variable_is_a_problem_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    first, second = problems(tmp_path, 'name = "x"\n[train]\nfolder = "${ABSENT}/a"\nstepz = 1\n')
    assert first.startswith("train.folder (line 3): environment variable ABSENT is not set")
    assert "${ABSENT:-fallback}" in first
    assert second.startswith("train.stepz (line 4)")


def test_tables_are_checked_by_their_plug_in(tmp_path: Path) -> None:
    text = 'name = "x"\n[sources.wiki]\nreader = "jsonl"\npath = "a"\ntexxt = "body"\n'
    (row,) = problems(tmp_path, text)
    assert row == "sources.wiki.texxt (line 5): unknown key; did you mean `text`?"


def test_an_unknown_plug_in_and_none(tmp_path: Path) -> None:
    text = 'name = "x"\n[sources.a]\nreader = "jsonll"\npath = "a"\n[sources.b]\npath = "b"\n'
    first, second = problems(tmp_path, text)
    assert first.startswith("sources.a (line 2): no plug-in 'jsonll' in data_prep.readers")
    assert "did you mean 'jsonl'?" in first
    assert second.startswith("sources.b (line 5): needs `reader`, one of: ")


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*absent\.toml: No such file"):
        recipe.load(tmp_path / "absent.toml", (), Recipe)
    (tmp_path / "bytes.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(RecipeError, match="is not UTF-8"):
        recipe.load(tmp_path / "bytes.toml", (), Recipe)
    with pytest.raises(RecipeError, match=r"is not valid TOML: .*line 1"):
        load(tmp_path, "name = nobody\n")


def test_the_resolved_recipe_loads_again_unchanged(tmp_path: Path) -> None:
    text = 'name = "Ünïcode \\"quoted\\""\n[train]\nfolder = "a b"\nlearning_rate = 3e-4\n'
    found = load(tmp_path, text, "train.steps=12")
    assert load(tmp_path, recipe.to_toml(found)) == found


def test_tables_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Train().steps = 3  # type: ignore[misc]


def test_the_complete_schema_checks_tables_of_later_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\noutput = "out"\n[export]\nonxx = true\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=r"export\.onxx \(line 4\): unknown key; did you mean"):
        recipe.load(path, (), config.Recipe)
