"""Which parameters are updated how: the groups of an optimizer, in the same order on all ranks.

Matrices, embeddings among them, are decayed; norms, biases and other vectors are not. Under Muon
the matrices of the repeated layers (those inside an `nn.ModuleList`, embeddings left out) form a
group of their own.
"""

from typing import Any

import torch
from torch import nn

from runtime import config

Groups = list[dict[str, Any]]


def parameter_groups(module: nn.Module, table: config.Optimizer) -> Groups:
    """Every parameter once, with all that its update rule needs."""
    # `fused` tells torch where a loaded `step` has to be.
    adam = {"lr": table.learning_rate, "betas": table.betas, "eps": table.eps, "fused": True}
    rule = "adamw" if table.name == "muon" else table.name
    hidden = hidden_matrices(module) if table.name == "muon" else set()
    parameters = list(module.parameters())
    muon = {"rule": "muon", "lr": table.muon_learning_rate, "momentum": table.muon_momentum}
    decay = {"weight_decay": table.weight_decay}
    groups: Groups = [
        {"params": [p for p in parameters if id(p) in hidden], **muon, **decay},
        {
            "params": [p for p in parameters if is_matrix(p) and id(p) not in hidden],
            "rule": rule,
            **adam,
            **decay,
        },
        {
            "params": [p for p in parameters if not is_matrix(p)],
            "rule": rule,
            **adam,
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


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
