"""oneDNN's linear layers compute what torch's do, and stand aside where they should."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pretrain.model import linear as fast
from pretrain.model.linear import Linear, linear, use_fast_linear

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch lacks oneDNN"
)


def of(given: Tensor, weight: Tensor, bias: Tensor | None, by_torch: bool) -> list[Tensor]:
    """Result and gradients."""
    inputs = [part.detach().requires_grad_() for part in (given, weight, bias) if part is not None]
    product = (nn.functional.linear if by_torch else linear)(*inputs)
    product.square().sum().backward()
    return [product.detach(), *(part.grad for part in inputs if part.grad is not None)]


@needs_onednn
@pytest.mark.parametrize("shape", [(7, 24), (1, 33, 24), (2, 5, 24), (1, 24)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    given, weight, bias = (torch.randn(s, generator=generator) for s in (shape, (40, 24), (40,)))
    found, expected = (of(given, weight, bias if has_bias else None, t) for t in (False, True))
    assert len(found) == len(expected) == 3 + has_bias
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_views_of_any_order_are_taken() -> None:
    generator = torch.Generator().manual_seed(1)
    given = torch.randn(24, 9, generator=generator).t()
    weight = torch.randn(24, 40, generator=generator).t()
    found = linear(given, weight)
    torch.testing.assert_close(found, given @ weight.t(), rtol=1e-5, atol=1e-5)


@needs_onednn
def test_a_frozen_weight_has_no_gradient() -> None:
    given = torch.randn(4, 8, requires_grad=True)
    weight = torch.randn(3, 8)
    linear(given, weight).sum().backward()
    torch.testing.assert_close(given.grad, weight.sum(0).expand(4, 8))


def test_other_types_and_empty_rows_are_left_to_torch() -> None:
    weight = torch.randn(3, 8)
    for given in (torch.zeros(0, 8), torch.zeros(2, 8, device="meta")):
        assert not fast.can(given, weight)
    assert linear(torch.zeros(0, 8), weight).shape == (0, 3)
    assert not fast.can(torch.zeros(2, 8, dtype=torch.bfloat16), weight.bfloat16())


def test_only_where_torch_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4))
    before = model(torch.ones(1, 4)).detach()
    monkeypatch.setattr(fast, "is_slow", lambda: False)
    use_fast_linear(model)
    assert [type(module) for module in model] == [nn.Linear, Own]
    monkeypatch.setattr(fast, "is_slow", lambda: True)
    use_fast_linear(model)
    assert [type(module) for module in model] == [Linear, Own]
    torch.testing.assert_close(model(torch.ones(1, 4)).detach(), before)
    assert isinstance(model[0], nn.Linear)


@pytest.mark.parametrize(
    ("vendor", "capability", "is_slow"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
    ],
)
def test_which_processors_are_slow(
    vendor: str, capability: str, is_slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(fast, "CPUINFO", path)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert fast.is_slow.__wrapped__() is is_slow
    monkeypatch.setattr(fast, "CPUINFO", tmp_path / "absent")
    assert not fast.is_slow.__wrapped__()
