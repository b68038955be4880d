"""Run a fine-tuned model on padded arrays, with torch or ONNX Runtime."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.heads import CLASSES

ONNX_FILE = "model.onnx"
# Model inputs (B, T) to logits (B, T, L) or (B, L).
Runner = Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]


def torch_model(folder: Path, head: str) -> Any:
    """The model of an export, in evaluation mode and fp32."""
    return CLASSES[head].from_pretrained(folder, dtype=torch.float32).eval()


def torch_runner(folder: Path, head: str) -> Runner:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = torch_model(folder, head).to(device)

    def run(arrays: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        inputs = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(**inputs).logits.float().cpu().numpy()
        return logits

    return run


def onnx_runner(file: Path) -> Runner:
    import onnxruntime  # an extra: only who serves ONNX needs it

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = {found.name for found in session.get_inputs()}

    def run(arrays: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        inputs = {name: array for name, array in arrays.items() if name in names}
        logits: NDArray[np.float32] = session.run(None, inputs)[0]
        return logits

    return run
