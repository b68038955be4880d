"""ONNX in fp32, and with 8-bit weights.

The graph takes `input_ids` and `attention_mask` (and `token_type_ids` for pairs), int64, any batch
and length up to the model's, and gives `logits`. The 8-bit model has a scale for each column of a
matrix. Its weights use 7 of the 8 bits: x86 CPUs without VNNI add two products of bytes up in 16
bits, where those of full weights overflow, so that a model that was exact where it was exported
could be wrong elsewhere. Activations are quantised as they come (dynamic quantisation).
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from finetune import torch_runner
from finetune.runners import Inputs

EXTRA = "onnx"
MODULES = ("onnx", "onnxruntime", "onnxscript")


def write(folder: Path, head: str, sample: Inputs, opset: int, file: Path) -> None:
    """Trace the model with batch and length left open; a batch of one in `sample` would fix it.

    Attention is traced as products and a softmax: torch's own leaves tests for rows without any
    token behind, which take 5 to 8 % of the time of an 8-bit model.
    """
    model = torch_runner.load(folder, head)
    model.set_attn_implementation("eager")
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch_runner.Exportable(model, list(sample)).eval(),
            tuple(torch.from_numpy(array) for array in sample.values()),
            str(file),
            input_names=list(sample),
            output_names=["logits"],
            dynamic_shapes=(tuple(axes for _ in sample),),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def write_int8(fp32: Path, file: Path) -> None:
    """Quantise the weights of an fp32 model."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            fp32, file, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what these libraries warn of: a torchvision that is not needed, a preparation of
    graphs that gives the same. They log without a name, so everything below an error is held."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
