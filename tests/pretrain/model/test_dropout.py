"""Cheap dropout: its share, its scale, its gradient, and that torch's generator decides it."""

import math

import pytest
import torch
from torch import nn

from pretrain.model.dropout import Dropout, dropped, factors, use_cheap_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9])
def test_share_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    found = factors(torch.Size([1000, 301]), dtype, p)
    assert found.dtype is dtype
    assert found.shape == (1000, 301)
    kept = torch.tensor(1 / (1 - p), dtype=dtype)
    assert set(found.unique().tolist()) == {0.0, kept.item()}
    share = (found == 0).double().mean().item()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / found.numel())


def test_neighbours_are_independent() -> None:
    torch.manual_seed(2)
    zeros = (factors(torch.Size([2, 200_000]), torch.float32, 0.5) == 0).double() - 0.5
    for shift in (1, 2, 3, 4, 8):
        assert abs((zeros[:, shift:] * zeros[:, :-shift]).mean()) * 4 < 0.01
    assert abs((zeros[0] * zeros[1]).mean()) * 4 < 0.01


def test_generator_of_torch_decides() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (dropped(torch.ones(64, 64), 0.3) for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(dropped(torch.ones(64, 64), 0.3), first)
    assert not torch.equal(first, second)


def test_gradient_is_that_of_what_stays() -> None:
    torch.manual_seed(4)
    states = torch.randn(50, 40, dtype=torch.float32, requires_grad=True)
    result = dropped(states, 0.25)
    gradient = torch.randn_like(result)
    (found,) = torch.autograd.grad(result, states, gradient)
    expected = torch.where(result == 0, 0.0, gradient / 0.75)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything(p: float) -> None:
    assert torch.equal(dropped(torch.ones(8), p), torch.full((8,), 1 - p))


def test_modules_are_turned() -> None:
    class Special(nn.Dropout):
        pass

    plain, special = nn.Dropout(0.5), Special(0.5)
    model = nn.Sequential(nn.Linear(4, 4), plain, nn.Sequential(special))
    use_cheap_dropout(model)
    assert type(plain) is Dropout
    assert type(special) is Special
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert torch.equal(plain.eval()(torch.ones(8)), torch.ones(8))
    assert (plain.train()(torch.ones(8, 64)) == 0).any()
