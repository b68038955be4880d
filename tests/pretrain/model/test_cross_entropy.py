"""The chunked loss equals the plain one, values and gradients, without holding its logits."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pretrain.model import cross_entropy
from pretrain.model.cross_entropy import IGNORED, chunk_size, judged, summed_cross_entropy


def inputs(dtype: torch.dtype, with_bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """700 targets (two chunks) of which 20 are padding, over 90 words."""
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(700, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(90, 16, generator=generator).to(dtype).requires_grad_()
    bias = torch.randn(90, generator=generator).to(dtype).requires_grad_() if with_bias else None
    targets = torch.randint(0, 90, (700,), generator=generator)
    targets[-20:] = IGNORED
    return hidden, weight, bias, targets


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight, bias).float()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_equals_the_plain_loss_and_gradients(
    dtype: torch.dtype, tolerance: float, with_bias: bool
) -> None:
    *parameters, targets = inputs(dtype, with_bias)
    expected = plain(*parameters, targets)
    (expected * 0.25).backward()
    wanted = [part.grad for part in parameters if part is not None]
    *parameters, targets = inputs(dtype, with_bias)
    found = summed_cross_entropy(*parameters, targets)
    (found * 0.25).backward()
    assert abs(found.item() / expected.item() - 1) < (1e-6 if dtype == torch.float32 else 1e-4)
    for ours, theirs in zip([p.grad for p in parameters if p is not None], wanted, strict=True):
        assert ours.dtype == dtype
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_padding_moves_nothing() -> None:
    hidden, weight, bias, targets = inputs(torch.float32, True)
    summed_cross_entropy(hidden, weight, bias, torch.full_like(targets, IGNORED)).backward()
    assert [part.grad.abs().max().item() for part in (hidden, weight, bias)] == [0, 0, 0]


def test_judged_by_hand() -> None:
    losses, hits = judged(
        torch.eye(2), torch.tensor([[0.0, 3.0], [0.0, 0.0]]), None, torch.tensor([0, 0])
    )
    assert losses.tolist() == pytest.approx([0.693147, 0.048587], abs=1e-5)  # ln 2, ln(1 + e^-3)
    assert hits.tolist() == [True, True]
    losses, hits = judged(torch.eye(2), torch.eye(2), None, torch.tensor([1, IGNORED]))
    assert losses[1] == 0
    assert hits.tolist() == [False, False]


def test_memory_of_logits_is_that_of_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = cross_entropy.to_gradients

    def noting(logits: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
        seen.append((len(logits), logits.data_ptr()))
        return original(logits, bias, wanted)

    monkeypatch.setattr(cross_entropy, "to_gradients", noting)
    hidden, weight, bias, targets = inputs(torch.float32, True)
    summed_cross_entropy(hidden, weight, bias, targets)
    assert [size for size, _ in seen] == [512, 188]
    assert len({address for _, address in seen}) == 1  # the same buffer serves every chunk


def test_a_chunk_is_an_eighth_of_many_targets() -> None:
    assert [chunk_size(count) for count in (1, 4096, 8192)] == [512, 512, 1024]
