"""The process that converts a model to TFLite; finetune/exporters/tflite.py starts it.

python -m finetune.exporters.convert '{"folder", "head", "names", "lengths", "files"}'
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from finetune import torch_runner
from finetune.runners import SIGNATURE


def convert(order: dict[str, Any]) -> None:
    """Write what an order asks for."""
    import litert_torch

    model = torch_runner.load(Path(order["folder"]), order["head"])
    function = torch_runner.Exportable(model, order["names"]).eval()
    converter = None
    for length in order["lengths"]:
        # int32: with int64 inputs the interpreter refuses to run.
        sample = {name: torch.ones((1, length), dtype=torch.int32) for name in order["names"]}
        converter = (converter or litert_torch).signature(
            f"{SIGNATURE}{length}", Named(function), sample_kwargs=sample
        )
    assert converter is not None
    converter.convert().export(order["files"]["tflite"])
    if "tflite-int8" in order["files"]:
        quantize(order["files"]["tflite"], order["files"]["tflite-int8"])


def quantize(fp32: str, file: str) -> None:
    """Quantise the weights, a scale a channel; activations as they come."""
    from ai_edge_quantizer import quantizer, recipe

    work = quantizer.Quantizer(fp32)
    work.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    work.quantize().export_model(file, overwrite=True)


class Named(torch.nn.Module):
    """A function of arrays that takes them by name, as signatures do."""

    def __init__(self, function: torch_runner.Exportable) -> None:
        super().__init__()
        self.function = function

    def forward(self, **arrays: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.function(*(arrays[name] for name in self.function.names))
        return found


if __name__ == "__main__":
    convert(json.loads(sys.argv[1]))
