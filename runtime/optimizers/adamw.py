"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): torch's fused kernel behind the gate.

Every value is updated from its own gradient alone, so flat shares of parameters need nothing else.
"""

from collections.abc import Callable
from typing import Any

import torch

from runtime.optimizers.gate import Gate


class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW that leaves everything as it was when the gate is shut."""

    def __init__(
        self, groups: list[dict[str, Any]], gate: Gate, betas: tuple[float, float], eps: float
    ) -> None:
        self.gate = gate
        super().__init__(groups, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        # DeepSpeed links the states after its first call, so they have to exist by then.
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    prepare(self.state[parameter], parameter)
        if self.gate.is_open():
            super().step()


def prepare(state: dict[str, Any], parameter: torch.Tensor) -> None:
    """The empty state of AdamW, as torch's own optimizer would make it."""
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
