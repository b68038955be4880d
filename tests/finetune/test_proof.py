"""The start-up proof keeps exact packing and pads what is not exact."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from finetune import proof
from finetune.heads import Objective
from finetune.task import Window
from pretrain.model import attention
from runtime.engine import Engine
from tests.finetune.test_packed import objective_of, windows


class Plain:
    """Stands for an engine: forwards the objective it is told of."""

    def __init__(self, objective: Objective) -> None:
        self.module = objective

    def evaluate(self, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(self.module(**inputs))


def settle(objective: Objective, given: list[Window]) -> None:
    proof.settle(cast(Engine, Plain(objective)), [(objective, given)])


@pytest.mark.parametrize("head", ["token", "sequence"])
def test_exact_packing_stays(head: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objective = objective_of("modernbert", head, tmp_path)
    with caplog.at_level("INFO", "textmill"):
        settle(objective, windows(head, 12))
    assert objective.is_packed
    assert objective.model.base_model.config._attn_implementation == attention.NAME
    assert "packing is exact: no leak" in caplog.text


def test_a_model_that_looks_across_windows_is_padded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = objective_of("bert", "token", tmp_path)
    objective.model.base_model.config._attn_implementation = "sdpa"  # over the whole row
    settle(objective, windows("token"))
    assert not objective.is_packed
    assert "windows change each other" in caplog.text
    assert "its batches are padded" in caplog.text


def test_a_model_with_other_positions_is_padded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = objective_of("roberta", "sequence", tmp_path)
    assert objective.packing is not None
    objective.packing.first_position = 0  # this family counts from 1
    settle(objective, windows("sequence"))
    assert not objective.is_packed
    assert "packed and padded logits" in caplog.text


def test_what_is_compared() -> None:
    given = windows("token", 30)
    found = proof.compared(given)
    lengths = [len(window.input_ids) for window in given]
    assert len(found) == proof.MAX_WINDOWS
    assert max(lengths) == len(found[0].input_ids)
    assert min(lengths) == len(found[1].input_ids)
    assert len(proof.compared(given[:1])) == 1
