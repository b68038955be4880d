"""Two tasks on one tiny encoder, read and encoded, without a run."""

from pathlib import Path

import pytest
import torch

from finetune.config import Recipe
from finetune.multitask.objective import Together, build
from finetune.multitask.prepare import Several, prepare
from finetune.multitask.progress import Noted
from runtime import recipe as recipes
from tests.finetune.conftest import ner_lines, review_lines, write_encoder

RECIPE = """
name = "tiny"
output = "run"
[engine]
precision = "fp32"
[tasks.people]
kind = "ner"
train = "train.conll"
valid = "valid.conll"
[tasks.reviews]
kind = "classification"
metric = "accuracy"
train = "train.jsonl"
valid = "valid.jsonl"
[multitask.both]
encoder = "encoder"
weights = { people = 1.0, reviews = 0.5 }
batch_size = 8
micro_batch_size = 4
"""


def write_tasks(folder: Path, encoder: Path, train: int = 20, scored: int = 9) -> Path:
    """The files of both tasks and a recipe that trains them together."""
    for i, split in enumerate(("train", "valid", "test")):
        size = train if split == "train" else scored
        (folder / f"{split}.conll").write_text(ner_lines(size, i))
        (folder / f"{split}.jsonl").write_text(review_lines(2 * size, i))
    (folder / "encoder").symlink_to(encoder)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def loaded(folder: Path, *overrides: str) -> Recipe:
    found = recipes.load(folder / "recipe.toml", overrides, Recipe)
    assert isinstance(found, Recipe)
    return found


@pytest.fixture(scope="session")
def still_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without dropout."""
    folder = write_encoder(tmp_path_factory.mktemp("still"))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('_dropout_prob": 0.1', '_dropout_prob": 0.0'))
    assert "0.1" not in config.read_text()
    return folder


@pytest.fixture
def folder(tmp_path: Path, still_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tasks(tmp_path, still_encoder)


@pytest.fixture
def several(folder: Path) -> Several:
    return prepare(loaded(folder), "both")


@pytest.fixture
def together(several: Several) -> Together:
    torch.manual_seed(1)
    return build(several, Noted()).train()
