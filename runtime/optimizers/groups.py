"""Which parameters are updated how: the groups of an optimizer, in the same order on all ranks.

Matrices, embeddings among them, are decayed; norms, biases and other vectors are not. Under Muon
the matrices of the repeated layers (those inside an `nn.ModuleList`, embeddings left out) form a
group of their own. Parameters with learning rates of their own form groups of each kind, the
highest rate first.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runtime import config

Groups = list[dict[str, Any]]


def parameter_groups(
    module: nn.Module, table: config.Optimizer, rate_of: Callable[[str], float] = lambda name: 1.0
) -> Groups:
    """Every parameter once, with all that its update rule needs.

    `rate_of` gives the learning rate of a parameter, by its name, relative to the table's.
    """
    # `fused` tells torch where a loaded `step` has to be.
    adam = {"betas": table.betas, "eps": table.eps, "fused": True}
    rule = "adamw" if table.name == "muon" else table.name
    hidden = hidden_matrices(module) if table.name == "muon" else set()
    named = list(module.named_parameters())
    muon = {"rule": "muon", "momentum": table.muon_momentum}
    decay = {"weight_decay": table.weight_decay}
    kinds: list[tuple[float, dict[str, Any], list[tuple[str, nn.Parameter]]]] = [
        (
            table.muon_learning_rate,
            {**muon, **decay},
            [(name, p) for name, p in named if id(p) in hidden],
        ),
        (
            table.learning_rate,
            {"rule": rule, **adam, **decay},
            [(name, p) for name, p in named if is_matrix(p) and id(p) not in hidden],
        ),
        (
            table.learning_rate,
            {"rule": rule, **adam, "weight_decay": 0.0},
            [(name, p) for name, p in named if not is_matrix(p)],
        ),
    ]
    return [
        {"params": [p for name, p in members if rate_of(name) == rate], "lr": peak * rate, **rest}
        for peak, rest, members in kinds
        for rate in sorted({rate_of(name) for name, _ in members}, reverse=True)
    ]


def hidden_matrices(module: nn.Module) -> set[int]:
    """The ids of the matrices of repeated layers."""
    layers = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    parts = [part for layer in layers for part in layer.modules()]
    embedded = {
        id(p) for part in parts if isinstance(part, nn.Embedding) for p in part.parameters()
    }
    inside = {
        id(p) for part in parts for p in part.parameters(recurse=False) if len(full_shape(p)) == 2
    }
    return inside - embedded


def is_matrix(parameter: nn.Parameter) -> bool:
    return len(full_shape(parameter)) >= 2


def full_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter whether or not ZeRO-3 has sharded it."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))
