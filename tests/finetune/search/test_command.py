"""`python -m finetune search`: the plan, and what is said when something is missing."""

import subprocess
import sys
from pathlib import Path

from tests.finetune.search.searching import add_search, variables

TABLES = """
[search]
target = "people"
trials = 7
top_seeds = 2
[search.space]
"tasks.people.learning_rate" = { low = 1e-5, high = 1e-3, log = true }
"tasks.people.epochs" = { low = 1, high = 3 }
"""


def run(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=variables(root) | {"DS_ACCELERATOR": "cpu"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_dry_run_tells_the_plan_and_touches_nothing(workplace: Path, root: Path) -> None:
    add_search(workplace, TABLES)
    before = sorted(workplace.iterdir())
    done = run(root, workplace, "-m", "finetune", "search", "recipe.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    for line in (
        "finetune.search.people: to do",
        "  folder  run/finetune/search/people",
        "  f1 on valid; 7 trials by tpe, pruner median",
        "  tasks.people.learning_rate: 1e-05 to 0.001 by order of magnitude",
        "  tasks.people.epochs: 1 to 3 whole numbers",
        "  the best 3 again over 2 other seeds",
    ):
        assert line in done.stdout.splitlines()
    assert "1 at a time: 1 x " in done.stdout
    assert sorted(workplace.iterdir()) == before


def test_a_missing_extra_is_named(workplace: Path, root: Path) -> None:
    add_search(workplace, TABLES)
    without = (
        "import sys; sys.modules['optuna'] = None\n"
        "from finetune.__main__ import main\nsys.exit(main(['search', 'recipe.toml']))"
    )
    done = run(root, workplace, "-c", without)
    assert done.returncode == 2
    assert "a search needs optuna: pip install 'textmill[search]'" in done.stderr


def test_a_wrong_hostfile_is_refused(workplace: Path, root: Path) -> None:
    add_search(workplace, TABLES)
    (workplace / "hosts").write_text("node-01\n")
    command = ("-m", "finetune", "search", "recipe.toml", "--hostfile", "hosts")
    done = run(root, workplace, *command)
    assert done.returncode == 2
    assert "line 1 is no `NAME slots=N`: 'node-01'" in done.stderr


def test_a_driver_is_small(root: Path, tmp_path: Path) -> None:
    script = "import sys, finetune.search.driver; print(sorted({'torch'} & set(sys.modules)))"
    assert run(root, tmp_path, "-c", script).stdout.strip() == "[]"
