"""A recipe with a search, as tables: nothing is trained from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.config import Recipe

TABLES = """
name = "tiny"
output = "run"
seed = 3
[engine]
precision = "fp32"
[optimizer]
clip_norm = 2.0
[tasks.people]
kind = "ner"
train = "train.conll"
valid = "valid.conll"
test = "test.conll"
encoder = "encoder"
epochs = 3
batch_size = 8
micro_batch_size = 4
control_random_init = true
[tasks.reviews]
kind = "classification"
train = "train.jsonl"
valid = "valid.jsonl"
test = "test.jsonl"
[multitask.both]
encoder = "encoder"
weights = { people = 1.0, reviews = 0.5 }
[export]
onnx = true
[search]
target = "people"
"""


@pytest.fixture
def recipe_of(tmp_path: Path) -> Callable[..., Recipe]:
    """The checked recipe with overrides."""

    def loaded(*overrides: str) -> Any:
        from runtime import recipe

        path = tmp_path / "tables.toml"
        path.write_text(TABLES)
        return recipe.load(path, overrides, Recipe)

    return loaded
