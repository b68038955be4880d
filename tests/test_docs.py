"""What the documentation names exists, and its code runs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime import errors, plugins, recipe
from runtime.config import Recipe

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {"docs/recipe.md"}
PAGES = [
    path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
    if path.relative_to(ROOT).as_posix() not in GENERATED
]
FOLDERS = (
    "runtime", "data_prep", "pretrain", "finetune", "launch", "recipes", "ds_configs", "slurm",
    "docs", "tests", "benchmarks",
)  # fmt: skip
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#]+)\)")
MODULE = re.compile(r"(?:python -m|--module) (\w+)")
RECIPE = re.compile(r"recipes/[\w-]+\.toml")
TARGET = re.compile(r"\bmake (\w+)")


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [body for found, body in BLOCK.findall(text) if found == language]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_named_files_modules_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shell = "\n".join(blocks(page, "sh"))
    commands = "\n".join([shell, *INLINE.findall(text)])
    missing = [link for link in LINK.findall(text) if is_local(link) and not near(page, link)]
    missing += [
        name for name in INLINE.findall(text) if is_path(name) and not (ROOT / name).exists()
    ]
    missing += [name for name in RECIPE.findall(text) if not (ROOT / name).is_file()]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    missing += [f"make {name}" for name in TARGET.findall(commands) if f"\n{name}:" not in makefile]
    missing += [name for name in MODULE.findall(commands) if not is_module(name)]
    assert not missing


def is_local(link: str) -> bool:
    return "://" not in link


def near(page: Path, link: str) -> bool:
    return (page.parent / link).exists()


def is_path(name: str) -> bool:
    """True for names of our own files: `runtime/engine.py`, `docs/`; not for patterns."""
    folder, slash, rest = name.partition("/")
    is_pattern = any(mark in rest for mark in "*<> ") or re.search(r"\b[A-Z]{4,}\b", rest)
    return folder in FOLDERS and bool(slash) and not is_pattern


def is_module(name: str) -> bool:
    """True if `python -m NAME` works; capitals stand for a package."""
    if name.isupper() or name in ("pytest", "pip", "venv"):
        return True
    return find_spec(f"{name}.__main__") is not None


def test_recipes_of_the_makefile_exist() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not [name for name in RECIPE.findall(text) if not (ROOT / name).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_toml_blocks_are_recipes_or_parts_of_one(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        data = tomllib.loads(block)
        if "name" in data:
            path = tmp_path / "recipe.toml"
            path.write_text(block, encoding="utf-8")
            recipe.load(path, (), Recipe)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_blocks_compile_and_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        imports = [
            node
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        exec(compile(ast.Module(imports, []), page.name, "exec"), {})


def test_the_whole_cleaning_step_of_the_page_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_prep.documents import Document, Reject

    (tmp_path / "page_steps").mkdir()
    (tmp_path / "page_steps/__init__.py").write_text('"""Made for a test."""\n')
    (step,) = blocks(ROOT / "docs/plugins.md", "python")
    (tmp_path / "page_steps/digits.py").write_text(step, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = plugins.find("page_steps", "digits")
    params = plugins.TableCheck("page_steps", "step")({"step": "digits", "max_share": 0.3})
    kept = Document("1", "twelve 12", "s", "general")
    assert module.clean(kept, params) is kept
    dropped = module.clean(Document("2", "12345 ab", "s", "general"), params)
    assert isinstance(dropped, Reject)
    assert dropped.reason == "mostly digits"


def test_shards_open_as_the_page_says(tmp_path: Path) -> None:
    import numpy as np

    namespace: dict[str, object] = {}
    (block,) = blocks(ROOT / "docs/shards.md", "python")
    exec(compile(block, "shards.md", "exec"), namespace)
    np.save(tmp_path / "train-0.tokens.npy", np.array([[9, 9, 9, 0], [2, 5, 3, 0]], np.uint16))
    np.save(tmp_path / "train-0.lengths.npy", np.array([3, 2, 1], np.int32))
    np.save(tmp_path / "train-0.offsets.npy", np.array([0, 1, 3], np.int64))
    found = namespace["documents_of"](str(tmp_path), "train-0", 1)  # type: ignore[operator]
    assert [part.tolist() for part in found] == [[2, 5], [3]]


def test_every_exit_code_is_on_its_page() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    for kind in errors.TextmillError.__subclasses__():
        if kind.__module__ == "runtime.errors":
            assert f"| {kind.exit_code} | `{kind.__name__}` |" in page


def test_every_ds_config_is_on_its_page() -> None:
    page = (ROOT / "docs/engines.md").read_text(encoding="utf-8")
    names = {path.stem for path in (ROOT / "ds_configs").glob("*.json")}
    assert names == set(re.findall(r"^\| `(\w+)` \| \d \|", page, re.MULTILINE))


def test_every_dependency_has_a_reason() -> None:
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").lower()
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = [node for node in ast.walk(setup) if isinstance(node, ast.List)]
    named = {
        re.split(r"[<>=!~\[]", element.value)[0].lower()
        for each in lists
        for element in each.elts
        if isinstance(element, ast.Constant) and re.search(r"[<>=]=", str(element.value))
    }
    assert len(named) > 20
    assert not {name for name in named if not re.search(rf"\b{re.escape(name)}\b", page)}


def test_the_lock_holds_exact_versions_of_every_dependency() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    locked = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    wanted = {
        re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", line)[0]).lower()
        for line in requires("textmill") or []
        if not re.search(r"extra == ['\"]tflite['\"]", line)
    }
    assert wanted <= locked


def test_the_readmes_say_the_same() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    assert blocks(english, "sh") == blocks(chinese, "sh")
    assert blocks(english, "python") == blocks(chinese, "python")
    ours, theirs = (
        [tomllib.loads(block) for block in blocks(page, "toml")] for page in (english, chinese)
    )
    assert ours == theirs
    rows = [
        re.findall(r"^\| (`\S+`) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
        for page in (english, chinese)
    ]
    assert rows[0] == rows[1]


def test_the_reference_is_written_by_its_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runtime.schema", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.md", "recipe.schema.json"]
