"""Packed attention on an accelerator: variable-length flash attention and dense batches.

Models in bf16 are judged by fp32: packing must not be much further from it than the library's own
attention, one segment at a time, is on the same device. On CPU the same tests show that they can be
passed.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from pretrain.model import attention
from pretrain.model.attention import segments_of
from pretrain.model.build import first_position
from pretrain.model.objective import MaskedLM
from tests.runtime.devices import DEVICES

LENGTHS = np.array([5, 40, 33, 1, 164, 7, 300])
TOTAL = int(LENGTHS.sum())
SHAPE = {
    "vocab_size": 512,
    "hidden_size": 128,
    "num_attention_heads": 2,  # 64 wide, as in the released models
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "max_position_embeddings": 600,
    "pad_token_id": 0,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS: dict[str, PreTrainedConfig] = {
    "modernbert": ModernBertConfig(
        **SHAPE,
        local_attention=64,  # 32 to each side: shorter and longer than the segments
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    ),
    "bert": BertConfig(**SHAPE, **NO_DROPOUT),
    "roberta": RobertaConfig(**SHAPE, **NO_DROPOUT),
}


def results(name: str, device: str, dtype: torch.dtype, is_packed: bool) -> dict[str, Tensor]:
    """Hidden states, loss and the gradient of every parameter, in fp32 on the CPU."""
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(CONFIGS[name], attn_implementation=attention.NAME)
    objective = MaskedLM(model).to(device, dtype).train()
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 512, (1, TOTAL), generator=generator).to(device)
    places = np.concatenate([np.arange(n) for n in LENGTHS]) + first_position(model.config)
    positions = torch.from_numpy(places)[None].to(device)
    if is_packed:
        hidden = objective.encode(ids, positions, segments_of(LENGTHS).to(torch.device(device)))
    else:
        model.config._attn_implementation = "sdpa"
        bounds = np.cumsum([0, *LENGTHS])
        parts = [slice(start, end) for start, end in pairwise(bounds)]
        hidden = torch.cat(
            [model.base_model(input_ids=ids[:, p], position_ids=positions[:, p])[0] for p in parts],
            dim=1,
        )
    logits = objective.head.logits(hidden[0]).float()
    loss = torch.nn.functional.cross_entropy(logits, ids[0])
    loss.backward()
    found = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    found |= {"hidden": hidden.detach(), "loss": loss.detach()}
    return {name: value.float().cpu() for name, value in found.items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_bf16_is_as_near_to_fp32_as_unpacked(name: str, device: str) -> None:
    exact = results(name, "cpu", torch.float32, is_packed=False)
    packed, unpacked = (results(name, device, torch.bfloat16, packs) for packs in (True, False))
    assert packed.keys() == unpacked.keys() == exact.keys()
    for key, value in exact.items():
        scale = value.abs().max()
        ours, theirs = ((found[key] - value).norm() for found in (packed, unpacked))
        assert ours <= 3 * theirs + 1e-3 * scale, (key, float(ours), float(theirs))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_fp32_is_unpacked(name: str, device: str) -> None:
    """In dense batches, also on CUDA."""
    exact = results(name, "cpu", torch.float32, is_packed=False)
    packed = results(name, device, torch.float32, is_packed=True)
    for key, value in exact.items():
        limit = 1e-4 * value.abs().max().clamp(min=1e-2)
        assert (packed[key] - value).abs().max() <= limit, key


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("window", [None, 17])
def test_attention_in_bf16_equals_that_in_fp32(window: int | None, device: str) -> None:
    """Values and gradients of one attention."""

    def mixed(device: str, dtype: torch.dtype) -> list[Tensor]:
        states = [part.clone().to(device, dtype).requires_grad_() for part in inputs]
        found, _ = attention.packed_attention(
            torch.nn.Module(), *states, None, 0.125, sliding_window=window,
            segments=segments_of(LENGTHS).to(torch.device(device)),
        )  # fmt: skip
        (found * weight.to(device, dtype)).sum().backward()
        return [found.detach(), *(part.grad for part in states if part.grad is not None)]

    generator = torch.Generator().manual_seed(2)
    inputs = [torch.randn(1, 4, TOTAL, 64, generator=generator) for _ in range(3)]
    weight = torch.randn(1, TOTAL, 4, 64, generator=generator)
    expected, found = mixed("cpu", torch.float32), mixed(device, torch.bfloat16)
    assert len(expected) == len(found) == 4
    for exact, value in zip(expected, found, strict=True):
        torch.testing.assert_close(value.float().cpu(), exact, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_dropout_of_attention_keeps_the_mean(device: str) -> None:
    """Which variable-length attention lacks: such models are trained in dense batches."""
    size = (1, 2, TOTAL, 64)
    ones = torch.ones(size, device=device, dtype=torch.bfloat16)

    def run(dropout: float) -> Tensor:
        layout = segments_of(LENGTHS).to(torch.device(device))
        mixed, _ = attention.packed_attention(
            torch.nn.Module(), ones, ones, ones, None, 0.125, dropout, segments=layout
        )
        return mixed.float()

    assert (run(0.0) - 1.0).abs().max() < 0.01
    dropped = run(0.3)
    assert dropped.std() > 0.01
    assert abs(float(dropped.mean()) - 1.0) < 0.03
