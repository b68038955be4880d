"""One optimizer for all update rules: a rule for each parameter group, behind the gate.

DeepSpeed hands it flat shares of the parameters (see shares.py), one group or a part of one a call;
without ZeRO it gets the parameters themselves.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from runtime.optimizers.gate import Gate
from runtime.optimizers.shares import Layout

State = dict[str, Any]
Group = Mapping[str, Any]


class Rule(Protocol):
    """How tensors with gradients become new ones.

    States are named as DeepSpeed's conversion to other world sizes expects: `exp_avg`, `exp_avg_sq`
    in the layout of the parameter, and `step`.
    """

    def prepare(self, state: State, tensor: Tensor) -> None:
        """Make the states of a tensor if there are none."""

    def update(
        self, tensors: list[Tensor], states: list[State], group: Group, layout: Layout
    ) -> None:
        """Update the tensors and their states in place from their clipped gradients."""


class Sharded(torch.optim.Optimizer):
    """Applies to each group the rule that its `rule` names; leaves all as it was when shut."""

    def __init__(self, groups: list[dict[str, Any]], rules: Mapping[str, Rule], gate: Gate) -> None:
        self.rules = rules
        self.gate = gate
        self.layout: Layout | None = None  # known once DeepSpeed has made its shards
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rule = self.rules[group["rule"]]
            tensors = [tensor for tensor in group["params"] if tensor.grad is not None]
            # Also when shut: DeepSpeed links the states after its first call and never again.
            for tensor in tensors:
                rule.prepare(self.state[tensor], tensor)
            if tensors and self.gate.is_open():
                assert self.layout is not None
                states = [self.state[tensor] for tensor in tensors]
                rule.update(tensors, states, group, self.layout)
