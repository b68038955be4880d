"""Learning rates by layer: the head's own, and lower ones the further down a layer lies.

The layers of an encoder are the entries of its longest `nn.ModuleList`, whatever the class calls
them. What comes before them is the embeddings, what comes after them (a final norm) goes with the
top layer, and everything that is not of the encoder (pooler, classifier, transitions of a CRF) is
the head. As in BEiT (Bao et al. 2022), with n layers the rate of layer i, from 0 at the bottom, is
layer_decay ** (n - i), and that of the embeddings layer_decay ** (n + 1).
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from finetune.task import Training

HEAD = ("pooler.",)  # of the encoder's class, but made for the task


def rates(folder: Path, table: Training) -> Callable[[str], float]:
    """Learning rate of a parameter of an objective on this encoder, by its name, relative to the
    table's."""
    of_head = (table.head_learning_rate or table.learning_rate) / table.learning_rate
    if of_head == 1.0 and table.layer_decay == 1.0:
        return lambda name: 1.0
    below = distances(folder)

    def rate(name: str) -> float:
        parts = name.split(".")
        for start in range(len(parts)):  # the encoder lies somewhere inside the objective
            distance = below.get(".".join(parts[start:]))
            if distance is not None:
                return table.layer_decay**distance
        return of_head

    return rate


def distances(folder: Path) -> dict[str, int]:
    """Of the encoder's parameters by name, how far below the head they lie; not of its pooler."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        encoder = AutoModel.from_config(config)
    lists = {
        name: len(module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList)
    }
    layers = max(lists, key=lambda name: lists[name], default="")
    size = lists.get(layers, 0)
    found: dict[str, int] = {}
    is_above = False
    for name, _ in encoder.named_parameters():
        inside = re.match(rf"{re.escape(layers)}\.(\d+)\.", name) if size else None
        is_above |= inside is not None
        if name.startswith(HEAD):
            continue
        if inside is not None:
            found[name] = size - int(inside[1])
        else:
            found[name] = 1 if is_above else size + 1
    return found
