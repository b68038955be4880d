"""The models that gpu_pretrain.py trains, what it takes away from them, and what they run on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import record
import torch


@dataclass(frozen=True)
class Shape:
    """A model and how much of it fits a device."""

    table: Mapping[str, Any]  # of the recipe
    micro_tokens: int  # of one forward


def modernbert(layers: int, width: int, heads: int, between: int) -> dict[str, Any]:
    return {
        "architecture": "modernbert", "num_layers": layers, "hidden_size": width,
        "num_heads": heads, "intermediate_size": between,
    }  # fmt: skip


SHAPES = {
    "modernbert-base": Shape(modernbert(22, 768, 12, 1152), 65_536),
    "modernbert-large": Shape(modernbert(28, 1024, 16, 2624), 32_768),
    "bert-base": Shape(modernbert(12, 768, 12, 3072) | {"architecture": "bert"}, 65_536),
    "32m": Shape(modernbert(10, 384, 6, 576), 131_072),
    "17m": Shape(modernbert(7, 256, 4, 384), 131_072),
}
QUICK = {
    "small": Shape(modernbert(3, 64, 2, 96), 1024),
    "small-bert": Shape(modernbert(2, 64, 2, 128) | {"architecture": "bert"}, 1024),
}
ALL = SHAPES | QUICK
# Of `gpu_variants.py`, or a setting of the recipe; all else as in "as it is".
VARIANTS: dict[str, list[str]] = {
    "as it is": [],
    "not compiled": ["engine.compile=false"],
    "ZeRO 1": ['engine.ds_config="zero1"'],
    "ZeRO 3": ['engine.ds_config="zero3"', "engine.compile=false"],
    "layers computed again": ["engine.activation_checkpointing=true"],
    "deterministic": ["engine.deterministic=true"],
    "one document a row": ["padded"],
    "sdpa with a mask": ["masked-sdpa"],
    "dense batches": ["dense-batches"],
    "head on all tokens": ["whole-head"],
    "AdamW not fused": ["foreach-adamw"],
    "CUDA graphs": ["cuda-graphs"],
}


def hardware() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{device}; {record.hardware()}"
