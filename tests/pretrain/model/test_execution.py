"""Recomputed and compiled encoders give the same loss and gradients."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, BertConfig

from pretrain.model import attention
from pretrain.model.attention import segments_of
from pretrain.model.execution import checkpoint_activations, compile_encoder
from pretrain.model.objective import MaskedLM
from runtime.errors import RecipeError
from tests.pretrain.model.test_attention import CONFIGS, LENGTHS, SMALL, make, row

DROPPING = BertConfig(**SMALL, num_hidden_layers=2, hidden_dropout_prob=0.2)


def trained(objective: MaskedLM) -> tuple[Tensor, list[Tensor]]:
    """Summed loss and gradients of one forward and backward with dropout drawn from seed 7."""
    ids, positions = row(objective.model.config)
    scored = torch.arange(0, int(LENGTHS.sum()), 3)
    torch.manual_seed(7)
    objective.train()
    loss = objective(ids, positions, scored, ids[0, scored], segments_of(LENGTHS))[0]
    loss.backward()
    return loss.detach(), [p.grad for p in objective.parameters() if p.grad is not None]


def dropping() -> MaskedLM:
    torch.manual_seed(0)
    return MaskedLM(AutoModelForMaskedLM.from_config(DROPPING, attn_implementation=attention.NAME))


def test_recomputed_layers_are_bit_equal_with_dropout() -> None:
    plain, recomputed = dropping(), dropping()
    checkpoint_activations(recomputed.model)
    runs = []
    layer = recomputed.model.base_model.encoder.layer[0].intermediate
    layer.register_forward_hook(lambda *_: runs.append(1))
    expected, found = trained(plain), trained(recomputed)
    assert len(runs) == 2  # forward, and once more in backward
    assert torch.equal(expected[0], found[0])
    assert all(map(torch.equal, expected[1], found[1]))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_can_be_recomputed(name: str) -> None:
    plain, recomputed = make(name), make(name)
    checkpoint_activations(recomputed.model)
    expected, found = trained(plain), trained(recomputed)
    assert torch.equal(expected[0], found[0])
    assert all(map(torch.equal, expected[1], found[1]))


def test_a_class_that_cannot_is_refused() -> None:
    objective = make("bert")
    objective.model.supports_gradient_checkpointing = False
    with pytest.raises(RecipeError, match="activation_checkpointing = false"):
        checkpoint_activations(objective.model)


def test_compiled_encoder_keeps_names_and_values() -> None:
    plain, compiled = make("bert"), make("bert")
    names = list(compiled.state_dict())
    compile_encoder(compiled.model, backend="aot_eager")  # no compiler is started
    expected, found = trained(plain), trained(compiled)
    assert list(compiled.state_dict()) == names
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
