"""The start-up proof passes exact packing and refuses anything else."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretrain.micro_batch import MicroBatch
from pretrain.model import attention, proof
from pretrain.model.attention import segments_of
from pretrain.model.objective import MaskedLM
from runtime.engine import Engine
from runtime.errors import RecipeError
from tests.pretrain.model.test_attention import CONFIGS, LENGTHS, make, row


class OnCpu:
    """Stands for an engine: moves nothing."""

    def to_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


def prove(objective: MaskedLM) -> float:
    ids, positions = row(objective.model.config)
    inputs = {
        "input_ids": ids,
        "position_ids": positions,
        "segments": segments_of(LENGTHS),
    }
    batch = MicroBatch(inputs, num_targets=0, num_tokens=int(LENGTHS.sum()))
    return proof.prove(cast(Engine, OnCpu()), objective, batch, vocab_size=128)


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_packing_passes_and_leaves_the_mode_alone(name: str) -> None:
    objective = make(name).train()
    assert prove(objective) < 1e-5
    assert objective.training
    assert objective.model.config._attn_implementation == attention.NAME


def dense(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over the whole row: what restarting position_ids alone amounts to."""
    mixed = nn.functional.scaled_dot_product_attention(
        query, key, value, scale=scaling, enable_gqa=True
    )
    return mixed.transpose(1, 2), None


def no_window(*arguments: Any, **named: Any) -> tuple[Tensor, None]:
    """Right boundaries, but local layers see whole segments."""
    return attention.packed_attention(*arguments, **{**named, "sliding_window": None})


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the attention that models find under our name, for one test."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def replace(function: Any) -> None:
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, attention.NAME, function)

    return replace


@pytest.mark.parametrize("name", CONFIGS)
def test_a_leak_is_refused(name: str, registered: Any) -> None:
    registered(dense)
    with pytest.raises(RecipeError, match="leaks between documents"):
        prove(make(name))


def test_a_wrong_window_is_refused(registered: Any) -> None:
    registered(no_window)
    with pytest.raises(RecipeError, match="packed and unpacked hidden states of this model differ"):
        prove(make("modernbert"))


def test_only_the_first_segments_are_compared() -> None:
    lengths = np.full(20, 5)
    ids = torch.zeros(1, 100, dtype=torch.long)
    inputs = {"input_ids": ids, "position_ids": ids, "segments": segments_of(lengths)}
    probe = proof.shortened(cast(Engine, OnCpu()), MicroBatch(inputs, 0, 100))
    assert probe.bounds == [(start, start + 5) for start in range(0, 40, 5)]
    assert probe.input_ids.shape == (1, 40)
