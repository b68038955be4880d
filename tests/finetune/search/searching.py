"""Searches with real trials: the workplace's tasks with a [search], and trials forked by tests."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.config import Recipe
from finetune.search import driver
from finetune.search.job import Process, popen
from finetune.search.starts import Start
from runtime import recipe
from tests.ranks import Forked

SEARCH = """
[search]
target = "people"
top = 0
"""


def add_search(folder: Path, tables: str = SEARCH) -> Path:
    """The workplace's recipe without exports and controls, with a search."""
    path = folder / "recipe.toml"
    text = path.read_text()
    text = text[: text.index("[export]")].replace("control_random_init = true\n", "")
    path.write_text(text + tables)
    return path


def forked(start: Start, log: Path) -> Process:
    """The rank of a trial; as long as a fresh interpreter takes to import, it takes to train."""
    if start.wanted is not None:
        return popen(start, log)
    return Forked(list(start.line[1:]), start.environment, Path.cwd(), log.absolute())


def searched(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Search in this process, in the current folder."""
    checked = recipe.load(path, tuple(overrides), Recipe)
    target, places = driver.check(checked, None)
    return driver.run(checked, target, places, forked)


def variables(root: Path) -> dict[str, str]:
    """The environment of a driver of its own."""
    return {**os.environ, "PYTHONPATH": str(root)}
