"""Run a fine-tuned model on padded arrays. Torch-free, unless torch is the runtime that is chosen.

A runner takes the model's inputs (B, T), int64, and gives logits: (B, T, L) of a token head, (B, L)
of a sequence head. What lies in padding is nobody's business.
"""

# B windows  T tokens of the longest one  L labels

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError

Runtime = Literal["torch", "onnx", "onnx-int8", "tflite", "tflite-int8"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
FILES = {
    "onnx": "model.onnx",
    "onnx-int8": "model.int8.onnx",
    "tflite": "model.tflite",
    "tflite-int8": "model.int8.tflite",
}
# Fusing a residual with the norm after it leaves the vectorised norm for a scalar one, which takes
# a quarter of an 8-bit encoder's time (onnxruntime 1.32, CPU).
SLOWER_FUSIONS = ["SkipLayerNormFusion"]
SIGNATURE = "length_"  # and the number of tokens: the name of a TFLite signature
BATCH_TOKENS = 512  # padding included; small batches are fastest on CPUs

Inputs = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Runner:
    """A model that runs, and how it likes to be run."""

    run: Callable[[Inputs], NDArray[np.float32]]
    batch_tokens: int = BATCH_TOKENS
    longest: int | None = None  # tokens of an input; None: what the model was trained for


def open_runner(
    folder: Path, runtime: Runtime, head: str, pad_id: int, threads: int | None = None
) -> Runner:
    """The model in a folder. Raises DataError if it was not exported for this runtime."""
    if runtime == "torch":
        from finetune import torch_runner  # late: serving by another runtime needs no torch

        return torch_runner.open_model(folder, head, threads)
    file = folder / FILES[runtime]
    if not file.is_file():
        raise DataError(
            f"{folder} has no {file.name}; write it with `python -m finetune export {folder} ROWS "
            f"{runtime.replace('-', '_')}=true`"
        )
    if runtime.startswith("onnx"):
        return open_onnx(file, threads)
    return open_tflite(file, pad_id, threads)


def open_onnx(file: Path, threads: int | None) -> Runner:
    """An ONNX model on the CPU."""
    try:
        import onnxruntime  # an extra: only who serves ONNX needs it
    except ImportError as error:
        raise DataError(f"ONNX needs {error.name}: pip install 'textmill[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or usual_threads()
    session = onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSIONS
    )
    names = {found.name for found in session.get_inputs()}

    def run(arrays: Inputs) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {n: arrays[n] for n in names})[0]
        return logits

    return Runner(run)


def open_tflite(file: Path, pad_id: int, threads: int | None) -> Runner:
    """A TFLite model: every input is run alone, by the signature of the next length."""
    try:
        from ai_edge_litert.interpreter import Interpreter  # an extra, like onnxruntime
    except ImportError as error:
        raise DataError(f"TFLite needs {error.name}: pip install 'textmill[tflite]'") from None
    interpreter = Interpreter(str(file), num_threads=threads or usual_threads())
    signatures = {
        int(name.removeprefix(SIGNATURE)): interpreter.get_signature_runner(name)
        for name in interpreter.get_signature_list()
    }
    lengths = np.array(sorted(signatures))

    def run(arrays: Inputs) -> NDArray[np.float32]:
        sizes = arrays["attention_mask"].sum(axis=1)
        found: NDArray[np.float32] | None = None
        for i, size in enumerate(sizes.tolist()):
            length = int(lengths[np.searchsorted(lengths, size)])
            given = {name: row_of(array[i], name, length, pad_id) for name, array in arrays.items()}
            (logits,) = signatures[length](**given).values()  # (1, length, L) or (1, L)
            if found is None:
                width = arrays["input_ids"].shape[1]
                shape = logits.shape[1:] if logits.ndim == 2 else (width, logits.shape[-1])
                found = np.zeros((len(sizes), *shape), dtype=np.float32)
            if logits.ndim == 2:
                found[i] = logits[0]
            else:
                found[i, :size] = logits[0, :size]
        assert found is not None
        return found

    return Runner(run, longest=int(lengths[-1]))


def row_of(row: NDArray[np.int64], name: str, length: int, pad_id: int) -> NDArray[Any]:
    """One input (1, length) of what a signature takes, int32."""
    found = np.full((1, length), pad_id if name == "input_ids" else 0, dtype=np.int32)
    kept = min(length, len(row))
    found[0, :kept] = row[:kept]
    return found


def usual_threads() -> int:
    """What torch would take: OMP_NUM_THREADS, else a thread a core."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else (os.cpu_count() or 1)
