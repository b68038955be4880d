"""The architecture, held by the source itself: who imports whom, how large things may get."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "runtime": set(),
    "data_prep": {"runtime"},
    "pretrain": {"runtime", "data_prep"},
    "finetune": {"runtime", "data_prep", "pretrain", "launch"},  # a search starts ranks
    "launch": {"runtime"},
}
PACKAGES = tuple(MAY_IMPORT)
HEAVY = {"torch", "deepspeed", "transformers"}
# Checking a recipe, planning, starting processes and worker processes must not pay for torch.
MODELS = "data_prep/local_models.py"  # augmentation by a model: opt-in, imported in functions
TORCH_FREE = (
    "runtime.command",
    "runtime.config",
    "runtime.plugins",
    "runtime.provenance",
    "runtime.recipe",
    "runtime.schedule",
    "runtime.schema",
    "runtime.signals",
    "runtime.stages",
    "runtime.tracking",
    "runtime.watchdog.watching",
    "data_prep.__main__",
    "data_prep.plan",
    "pretrain.plan",
    "finetune.config",
    "finetune.plan",
    "launch.__main__",
    "launch.hosts.__main__",
    "launch.node",
)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "manager"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_LOOP_LINES = 90  # the training loop, which must be readable from top to bottom
TRAINING_LOOP = ("pretrain/train.py", "train_from")


def sources() -> list[Path]:
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [*found, *sorted((ROOT / "recipes").glob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(path: Path) -> Iterator[str]:
    """Every module a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_left(package: str) -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for module in imported_modules(path)
        if module.partition(".")[0] in set(PACKAGES) - MAY_IMPORT[package] - {package}
    ]
    assert not wrong


def importers(module: str) -> set[str]:
    return {
        name_of(path)
        for path in sources()
        if any(
            found == module or found.startswith(f"{module}.") for found in imported_modules(path)
        )
    }


def test_one_importer_of_deepspeed() -> None:
    assert importers("deepspeed") <= {"runtime/engine.py"}


def test_one_importer_of_torch_distributed() -> None:
    assert importers("torch.distributed") <= {"runtime/processes.py"}


def test_only_a_search_and_launch_itself_import_launch() -> None:
    found = {name for name in importers("launch") if name.partition("/")[0] in PACKAGES}
    wrong = {name for name in found if not name.startswith(("launch/", "finetune/search/"))}
    assert not wrong


def test_data_prep_and_launch_import_nothing_heavy() -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for package in ("data_prep", "launch")
        for path in sorted((ROOT / package).rglob("*.py"))
        for module in imported_modules(path)
        if module.partition(".")[0] in HEAVY and name_of(path) != MODELS
    ]
    assert not wrong


def test_recipes_are_checked_without_torch() -> None:
    """One process imports everything that must stay light, then says what heavy came with it."""
    lines = [f"import {module}" for module in TORCH_FREE]
    lines += ["import sys", f"print(sorted({HEAVY!r} & set(sys.modules)))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]", done.stderr or done.stdout


def test_packages_do_nothing_when_imported() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, f"{name_of(path)} holds more than a docstring"
            assert isinstance(body[0], ast.Expr), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_files_are_small_and_say_what_they_do(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert path.stem not in FORBIDDEN_NAMES, "name the file after what it knows"
    assert ast.get_docstring(tree), "no module docstring"
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            is_loop = (name_of(path), node.name) == TRAINING_LOOP
            limit = MAX_LOOP_LINES if is_loop else MAX_FUNCTION_LINES
            assert lines <= limit, f"{node.name} has {lines} lines, limit {limit}"
