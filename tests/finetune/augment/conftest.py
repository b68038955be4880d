"""Local language models of a few thousand weights, and ways to call an operation."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from finetune.augmentation.augmenting import AUGMENTATIONS
from finetune.tasks import ner
from finetune.tasks.classification import Params as Classification
from finetune.texts.labelled_text import Row
from runtime import plugins
from tests.data_prep import tiny_models
from tests.finetune.conftest import ner_lines


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random models by kind."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "marian": tiny_models.seq2seq(folder / "marian", "marian"),
        "t5": tiny_models.seq2seq(folder / "t5", "t5"),
        "causal": tiny_models.causal(folder / "causal"),
    }


def params_of(kind: str, **fields: Any) -> Any:
    schema = plugins.find(AUGMENTATIONS, kind).Params
    return schema.model_validate_json(json.dumps({"kind": kind, **fields}, default=str))


def task_of(*operations: Any, encoder: Path | None = None, is_tagged: bool = False) -> Any:
    """A task that only its operations and its encoder matter of."""
    schema = ner.Params if is_tagged else Classification
    name = None if encoder is None else str(encoder)
    return schema(train=Path("x"), encoder=name, augment=operations)


def copies_of(
    kind: str, train: list[Any], row: Any, encoder: Path | None = None, seed: int = 0, **fields: Any
) -> list[Any]:
    """What an operation makes of a row."""
    module = plugins.find(AUGMENTATIONS, kind)
    params = params_of(kind, **fields)
    resources = module.prepare(train, task_of(encoder=encoder), params)
    return list(module.augment(row, resources, params, Random(seed)))


@pytest.fixture(scope="session")
def reviews() -> list[Row]:
    texts = {"positive": ["good", "lovely"], "negative": ["bad", "awful"]}
    return [
        Row((f"the film was {word}{' today' * i}",), label, 1)
        for label, words in texts.items()
        for word in words
        for i in range(4)
    ]


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Like "ada met new york today ." with people and places."""
    path = tmp_path_factory.mktemp("rows") / "train.conll"
    path.write_text(ner_lines(48, 0))
    return ner.read(path, ner.Params(train=path)).rows
