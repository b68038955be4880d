"""Builds that end at the worst moments: the corpus is the same as if nothing had happened.

benchmarks/exactly_once.py does the same a hundred times with real text.
"""

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from data_prep import build as building
from data_prep.build import build
from data_prep.config import Recipe
from data_prep.plan import plan
from runtime import recipe as recipes
from tests.data_prep.conftest import ROOT, content, write_corpus_recipe

PUBLISHING = ("replace", "rename", "unlink", "rmdir")  # what changes names in a file system
SEEDS = range(6)  # of the rounds
STEPS = range(60)  # of publishing
SOME_STEPS = (0, 1, 4, 9, 17, 40)


class Stopped(BaseException):
    """The process ends here: nothing catches it."""


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    """benchmarks/exactly_once.py."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("exactly_once")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with an existing tokenizer, which is trained only once here."""
    path = write_corpus_recipe(tmp_path_factory.mktemp("kills"))
    run(path, f'output="{path.parent}/trained"')
    existing = f'path = "{path.parent}/trained/data/tokenizer"'
    path.write_text(path.read_text().replace("vocab_size = 512", existing))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [SEEDS[:2], pytest.param(SEEDS[2:], marks=pytest.mark.soak)])
def test_kills_at_random_moments(
    seeds: Sequence[int], kills: ModuleType, recipe: Path, tmp_path: Path
) -> None:
    clean = kills.clean_builds(recipe, tmp_path, "clean", (1, 3))
    done = 0
    for seed in seeds:
        found = kills.killed_round(tmp_path / "round", "tiny", clean, seed, 2)
        assert found["differs"] == [], found
        done += len(found["kills"])
    assert done >= len(seeds) // 2


@pytest.fixture(scope="module")
def almost_published(recipe: Path) -> tuple[Path, Path]:
    """The output folder of a recipe with the finished corpus of other inputs, and all passes of its
    own done; and the corpus it should come to."""
    folder = recipe.parent
    run(recipe, f'output="{folder}/clean"')
    run(recipe, f'output="{folder}/almost"', "packing.sequence_length=32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "publish", stop)
        with pytest.raises(Stopped):
            run(recipe, f'output="{folder}/almost"')
    return folder / "almost", folder / "clean" / "data"


@pytest.mark.slow
@pytest.mark.parametrize("steps", [SOME_STEPS, pytest.param(STEPS, marks=pytest.mark.soak)])
def test_an_end_at_any_step_of_publishing(
    steps: Sequence[int], recipe: Path, almost_published: tuple[Path, Path], tmp_path: Path
) -> None:
    almost, clean = almost_published
    for step in steps:
        output = f'output="{tmp_path}/{step}"'
        shutil.copytree(almost, tmp_path / str(step))
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, step)
            with pytest.raises(Stopped):
                run(recipe, output)
        run(recipe, output)
        assert content(tmp_path / str(step) / "data") == content(clean), f"step {step}"
        left = {path.name for path in (tmp_path / str(step)).iterdir()}
        assert left - {".data.work.lock", "locks"} == {"data"}, f"step {step}"


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """End the process at the given change of names once publishing has begun."""
    publish = building.publish

    def publish_and_stop(*arguments: Any) -> None:
        left = iter(range(step))

        def instead_of(function: Callable[..., None]) -> Callable[..., None]:
            def counted(*args: Any, **options: Any) -> None:
                if next(left, None) is None:
                    raise Stopped
                function(*args, **options)

            return counted

        for name in PUBLISHING:
            patch.setattr(os, name, instead_of(getattr(os, name)))
        publish(*arguments)

    patch.setattr(building, "publish", publish_and_stop)


def stop(*_: object) -> None:
    raise Stopped


def run(path: Path, *overrides: str) -> None:
    """What the command does, in this process and by one worker."""
    recipe = recipes.load(path, ("launch.workers=1", *overrides), Recipe)
    planned = plan(recipe)
    if planned.is_done:
        building.work_of(planned).remove()
    else:
        build(recipe, planned)
