"""The update of a bf16 model without ZeRO, in a third of the passes that DeepSpeed makes.

DeepSpeed's wrapper of stage 0 reads every gradient for its extremes (overflow), its norm, an fp32
copy and a multiplication by the loss scale, which is 1, most of them through copies of their own.
Here a gradient is copied to fp32 once, into memory that stays; the norm of the copies tells
whether all is finite, and they are multiplied only where they are clipped. What is saved and loaded
stays DeepSpeed's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from runtime import processes


class Update:
    """Takes the place of `step` of DeepSpeed's wrapper (private, pinned by range)."""

    def __init__(self, wrapper: Any, clip_norm: float, is_open: Callable[[], bool]) -> None:
        """`is_open` is asked when the norm is known (`_global_grad_norm` of the wrapper)."""
        self.wrapper = wrapper
        self.clip_norm = clip_norm
        self.is_open = is_open
        self.low: list[Tensor] = [p for group in wrapper.fp16_groups for p in group]
        self.high: list[Tensor] = [p for group in wrapper.fp32_groups for p in group]
        self.gradients = [torch.zeros_like(p) for p in self.high]

    @torch.no_grad()
    def __call__(self, closure: None = None) -> None:
        """Update the fp32 parameters, then the bf16 ones from them. All ranks call it."""
        self.copy_gradients()
        norm = processes.from_rank_0(float(torch.nn.utils.get_total_norm(self.gradients)))
        self.wrapper._global_grad_norm = norm
        if not self.is_open():
            return
        if self.clip_norm and norm > 0.99 * self.clip_norm:  # below, all would be multiplied by 1
            total = torch.tensor(norm, device=self.gradients[0].device)
            torch.nn.utils.clip_grads_with_norm_(self.high, self.clip_norm, total)
        self.wrapper.optimizer.step()
        torch._foreach_copy_(self.low, self.high)

    def copy_gradients(self) -> None:
        """Give the fp32 parameters the gradients of the bf16 ones; 0 where there is none."""
        pairs = []
        for low, high, gradient in zip(self.low, self.high, self.gradients, strict=True):
            high.grad = gradient
            if low.grad is None:
                gradient.zero_()
            else:
                pairs.append((gradient, low.grad))
        if pairs:
            torch._foreach_copy_([to for to, _ in pairs], [given for _, given in pairs])
