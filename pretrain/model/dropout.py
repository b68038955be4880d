"""Dropout that is cheap on CPUs.

torch draws a number of a scalar generator for each element there: a tenth to a fifth of a training
step of a small encoder. Here 16 bits an element come from SFC64 (Doty-Humphrey 2010, PractRand),
seeded from torch's generator, so that the saved state of that generator still decides everything.
The mask holds the factors 0 and 1 / (1 - p) in the type of the states, because torch does not
vectorise masks of bools. p is rounded to 1 / 65,536. On other devices it is torch's own.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BITS = {torch.float32: np.dtype(np.int32), torch.bfloat16: np.dtype(np.int16)}


class Dropout(nn.Dropout):
    """`nn.Dropout` by `dropped`."""

    def forward(self, states: Tensor) -> Tensor:
        return dropped(states, self.p) if self.training else states


def use_cheap_dropout(model: nn.Module) -> None:
    """Turn every `nn.Dropout` of a model into a `Dropout`."""
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = Dropout


def dropped(states: Tensor, p: float) -> Tensor:
    """States with a share of p set to 0 and the others divided by 1 - p."""
    if states.device.type != "cpu" or states.dtype not in BITS or not 0.0 < p < 1.0:
        return functional.dropout(states, p)
    mask: Tensor = factors(states.shape, states.dtype, p)
    return states * mask


@torch.compiler.disable  # type: ignore[untyped-decorator]
def factors(shape: torch.Size, dtype: torch.dtype, p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p)."""
    count = shape.numel()
    seed = int(torch.empty((), dtype=torch.int64).random_())
    draws: Any = np.random.SFC64(seed).random_raw(-(-count // 4))
    is_kept = draws.view(np.int16)[:count] >= round(p * 65536) - 32768
    kept = torch.tensor(1.0 / (1.0 - p), dtype=dtype)
    pattern = kept.view(torch.int16 if dtype == torch.bfloat16 else torch.int32).numpy()
    return torch.from_numpy(is_kept.astype(BITS[dtype]) * pattern).view(dtype).view(shape)
