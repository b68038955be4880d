"""The `textmill` command line: what is read, and what is refused before anything is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch import __main__
from tests.conftest import ROOT
from tests.launch.tiny import textmill


def test_dry_run_touches_nothing(recipe: Path) -> None:
    before = sorted(recipe.parent.iterdir())
    code, shown = textmill("run", recipe, "--dry-run", "seed=3")
    assert code == 0, shown
    assert "data_prep: to do" in shown
    assert "pretrain: waits for data_prep" in shown
    assert sorted(recipe.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.total_tokens=5", "did you mean `train`"),
        ('launch.launcher="deepspeed"', "cannot read the hostfile hostfile"),
    ],
)
def test_bad_recipe_is_refused_before_anything_is_written(
    recipe: Path, override: str, message: str
) -> None:
    code, shown = textmill("run", recipe, override)
    assert code == 2
    assert message in shown
    assert not (recipe.parent / "run").exists()


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from launch import __main__; __main__.arguments_parser().format_help();"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'rich', 'numpy'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"


def test_unknown_option_is_refused() -> None:
    assert textmill("run", "recipe.toml", "--nonsense")[0] == 2
    assert textmill("status", "folder", "extra")[0] == 2


@pytest.mark.parametrize(
    ("options", "overrides"),
    [
        ([], []),
        (["--launcher", "local"], ['launch.launcher="local"']),
        (["--hostfile", 'a "b'], ['launch.launcher="deepspeed"', 'launch.hostfile="a \\"b"']),
        (
            ["--launcher", "slurm", "--hostfile", "h"],
            ['launch.launcher="slurm"', 'launch.hostfile="h"'],
        ),
    ],
)
def test_options_are_overrides(options: list[str], overrides: list[str]) -> None:
    found = __main__.arguments_parser().parse_args(["run", "tiny.toml", *options])
    assert __main__.launch_overrides(found.launcher, found.hostfile) == overrides


def test_hosts_are_checked_before_anything_is_written(recipe: Path) -> None:
    hosts, variables = recipe.parent / "hosts", recipe.parent / "variables"
    hosts.write_text("node-01 slots=2\nnode-02 slots=2\n")
    variables.write_text("HF_TOKEN=hunter22\n")
    options = ("--hostfile", hosts, f"launch.environment_file={json.dumps(str(variables))}")
    code, shown = textmill("run", recipe, *options, "--dry-run")
    assert code == 0, shown
    assert "ranks: 4 ranks on node-01, node-02" in shown
    assert "hunter22" not in shown
    variables.write_text("HF_TOKEN='hunter22'\nRANK=0\n")
    code, shown = textmill("run", recipe, *options)
    assert code == 2
    assert "2 problems in the environment file" in shown
    assert "hunter22" not in shown
    assert not (recipe.parent / "run").exists()
