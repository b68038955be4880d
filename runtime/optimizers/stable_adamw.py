"""StableAdamW (Wortsman et al. 2023, arXiv 2304.13013, Algorithm 2): AdamW with update clipping.

The learning rate of each parameter is divided by max(1, RMS), where RMS is the root of the mean of
g^2 / max(u, eps^2) over the parameter: g its gradient, u its debiased second moment. It slows down
a parameter whose second moment is out of date, instead of letting one batch throw it off. The mean
is of the whole parameter wherever its shares lie: the ranks add up their sums, in float64, so the
number of ranks changes it by rounding only.
"""

import torch
from torch import Tensor

from runtime.optimizers.adamw import AdamW
from runtime.optimizers.sharded import Group, State
from runtime.optimizers.shares import Layout


class StableAdamW:
    """The rule `stable_adamw`."""

    def prepare(self, state: State, tensor: Tensor) -> None:
        AdamW().prepare(state, tensor)

    def update(
        self, tensors: list[Tensor], states: list[State], group: Group, layout: Layout
    ) -> None:
        for tensor, state in zip(tensors, states, strict=True):
            self.update_one(tensor, state, group, layout)

    def update_one(self, tensor: Tensor, state: State, group: Group, layout: Layout) -> None:
        assert tensor.grad is not None
        beta1, beta2 = group["betas"]
        state["step"] += 1
        step = float(state["step"])
        first, second = state["exp_avg"], state["exp_avg_sq"]
        first.lerp_(tensor.grad, 1 - beta1)
        second.mul_(beta2).addcmul_(tensor.grad, tensor.grad, value=1 - beta2)
        debiased = second / (1 - beta2**step)
        rates = self.rates(tensor, debiased, group, layout)
        denominator = debiased.sqrt_().add_(group["eps"])
        for share in layout.mine(tensor):
            rate = rates[share.parameter]
            part = share.of(tensor)
            part.mul_(1 - rate * group["weight_decay"])
            part.addcdiv_(share.of(first), share.of(denominator), value=-rate / (1 - beta1**step))

    def rates(self, tensor: Tensor, debiased: Tensor, group: Group, layout: Layout) -> list[float]:
        """The learning rate of every parameter, by its number."""
        assert tensor.grad is not None
        sums = torch.zeros(layout.num_parameters, dtype=torch.float64, device=tensor.device)
        for share in layout.mine(tensor):
            squares = share.of(tensor.grad).square()
            squares.div_(share.of(debiased).clamp(min=group["eps"] ** 2))
            sums[share.parameter] = squares.sum()
        layout.sum_over_ranks(sums)
        sums /= torch.tensor(layout.numels(tensor), dtype=torch.float64, device=tensor.device)
        rates: list[float] = (group["lr"] / sums.sqrt_().clamp_(min=1.0)).tolist()
        return rates
