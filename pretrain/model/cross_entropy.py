"""Cross-entropy of a linear layer's outputs without keeping those outputs.

With a vocabulary of tens of thousands the logits of all targets are the largest tensor of a small
encoder's training. Here the logits of a chunk of targets become, in place, the gradient of its
losses; the products with weight and hidden states follow at once and the buffer serves the next
chunk. Nothing is computed twice: only gradients of the size of the inputs wait for the backward
pass, which scales them (the idea of Liger Kernel, Hsu et al. 2024, arXiv 2410.10989).

Logits are held in the precision of the inputs, for a chunk; in fp32 only for a slice of a chunk.
"""

# K targets (some IGNORED)  D width  V vocabulary  C targets of a chunk  S of a slice

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pretrain.model.linear import add_product, product

IGNORED = -100  # a target that does not count: what is left of a static shape
CHUNK = 512  # targets, at least
MOST_CHUNKS = 8  # each adds to the weight's gradient in the inputs' precision: few roundings
# Targets held in fp32 at once. On CPU slices of 30k words stay below the size that malloc returns;
# on CUDA few large kernels.
SLICE = {"cpu": 128, "cuda": 4096}


def summed_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Tensor:
    """Sum over targets (K,), some IGNORED, of the cross-entropy of hidden (K, D) @ weight (V, D).T
    + bias (V,), in fp32; differentiable once, in all but the targets."""
    loss: Tensor = SummedLoss.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss


class SummedLoss(torch.autograd.Function):
    """Sum of the cross-entropies of `hidden @ weight.T + bias`; gradients are made in forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, at: Tensor
    ) -> Tensor:
        """See `summed_cross_entropy`; `at` are the targets."""
        counts = (at != IGNORED).to(hidden.dtype)[:, None]  # (K, 1)
        wanted = at.clamp(min=0)[:, None]  # (K, 1)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.empty_like(weight)
        bias_gradient = None if bias is None else torch.zeros_like(bias)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = chunk_size(len(hidden))
        buffer = hidden.new_empty(min(size, len(hidden)), len(weight))  # (C, V)
        for start in range(0, len(hidden), size):
            part = slice(start, min(start + size, len(hidden)))
            counted = hidden[part] * counts[part]  # an ignored target moves nothing
            logits = product(hidden[part], weight, buffer[: len(counted)])  # (C, V)
            losses = to_gradients(logits, bias, wanted[part])
            total += (losses * counts[part, 0]).sum()
            product(logits, weight.t(), hidden_gradient[part])
            if start == 0:
                product(logits.t(), counted.t(), weight_gradient)
            else:
                add_product(weight_gradient, logits.t(), counted.t())
            if bias_gradient is not None:
                bias_gradient += (counts[part].t() @ logits)[0]
        hidden_gradient *= counts
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return *(None if part is None else part * scale.to(part.dtype) for part in gradients), None


def to_gradients(logits: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
    """Turn logits (C, V) without bias into the gradients of their losses; returns those (C,) in
    fp32. `wanted` (C, 1) are the targets."""
    losses = []
    size = SLICE[logits.device.type]
    for part, at in zip(torch.split(logits, size), torch.split(wanted, size), strict=True):
        exact = part.float() if bias is None else part.float() + bias.float()  # (S, V)
        exact = torch.log_softmax(exact, dim=-1)
        losses.append(-exact.gather(1, at)[:, 0])
        exact.exp_().scatter_add_(1, at, exact.new_full(at.shape, -1.0))
        part.copy_(exact)
    return torch.cat(losses)


@torch.no_grad()
def judged(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss (K,) in fp32 of every target, 0 where IGNORED, and whether it scores highest (K,)."""
    losses, hits = [], []
    size = SLICE[hidden.device.type]
    for part, at in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
        logits = functional.linear(part, weight, bias).float()  # (S, V)
        losses.append(functional.cross_entropy(logits, at, ignore_index=IGNORED, reduction="none"))
        hits.append(logits.argmax(-1) == at)
    return torch.cat(losses), torch.cat(hits)


def chunk_size(num_targets: int) -> int:
    """Targets of a chunk."""
    return max(CHUNK, -(-num_targets // MOST_CHUNKS))
