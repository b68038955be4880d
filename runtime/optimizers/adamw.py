"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) by torch's fused kernel.

Every element is updated from its own gradient alone, so flat shares of parameters need nothing
else.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from runtime.optimizers.sharded import Group, State
from runtime.optimizers.shares import Layout


class AdamW:
    """The rule `adamw`; equals torch.optim.AdamW(fused=True)."""

    def prepare(self, state: State, tensor: Tensor) -> None:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
            state["exp_avg"] = torch.zeros_like(tensor, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(tensor, memory_format=torch.preserve_format)

    def update(
        self, tensors: list[Tensor], states: list[State], group: Group, layout: Layout
    ) -> None:
        beta1, beta2 = group["betas"]
        adamw(
            tensors,
            [tensor.grad for tensor in tensors],  # type: ignore[misc]  # all have one
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
