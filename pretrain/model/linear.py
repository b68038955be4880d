"""Linear layers in fp32 by oneDNN, on CPUs where torch's own products are slow.

torch multiplies fp32 matrices by MKL, which on AMD processors with AVX-512 keeps to AVX2: 110
GFLOP/s a core where oneDNN, which every build of torch brings along, does 245 forward, 250 for the
gradient of the input and 160 to 230 for that of the weight. Sums are added up in another order:
results differ by rounding. Everywhere else, and in bf16, layers are torch's.
"""

# M rows  K inputs of the layer  N outputs

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

CPUINFO = Path("/proc/cpuinfo")


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, given: Tensor) -> Tensor:
        return linear(given, self.weight, self.bias)


def use_fast_linear(model: nn.Module) -> None:
    """Turn every `nn.Linear` of a model into a `Linear` where that is faster."""
    if not is_slow():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


@cache
def is_slow() -> bool:
    """True on a CPU whose fp32 products torch does slowly. Depends on the processor alone, so that
    a run that is continued there goes on bit for bit."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not CPUINFO.is_file():
        return False
    is_amd = "AuthenticAMD" in CPUINFO.read_text(encoding="utf-8", errors="replace")[:4096]
    return is_amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


def linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """given (..., K) @ weight (N, K).T + bias (N,): (..., N)."""
    if not can(given, weight):
        return functional.linear(given, weight, bias)
    rows = given.reshape(-1, given.shape[-1])
    product: Tensor = Product.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return product.view(*given.shape[:-1], -1)


def can(given: Tensor, weight: Tensor) -> bool:
    """True for what oneDNN is asked to do."""
    is_fp32 = given.dtype == weight.dtype == torch.float32
    is_here = given.device.type == weight.device.type == "cpu"
    return is_fp32 and is_here and given.numel() > 0 and not torch.compiler.is_compiling()


def multiplied(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left (M, K) @ right (N, K).T + bias (N,), by oneDNN; views of any order are taken as they
    are."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return found


def product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left (M, K) @ right (N, K).T, written into `out` (M, N)."""
    if is_slow() and can(left, right):
        return out.copy_(multiplied(left, right))
    return torch.mm(left, right.t(), out=out)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left (M, K) @ right (N, K).T to `total` (M, N)."""
    if is_slow() and can(left, right):
        total += multiplied(left, right)
    else:
        total.addmm_(left, right.t())


class Product(torch.autograd.Function):
    """`linear` by oneDNN, forward and backward."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """given (M, K), weight (N, K), bias (N,) -> (M, N)."""
        ctx.save_for_backward(given, weight)
        return multiplied(given, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given, weight = ctx.saved_tensors
        of_given, of_weight, of_bias = ctx.needs_input_grad
        return (
            multiplied(gradient, weight.t()) if of_given else None,
            multiplied(gradient.t(), given.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )
