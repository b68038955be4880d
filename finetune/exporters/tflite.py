"""TFLite in fp32, and with 8-bit weights, by litert-torch and ai-edge-quantizer.

A TFLite graph has fixed lengths, so the file holds a signature `length_N` for each length of the
recipe; they share the weights. All take int32 arrays (1, N) named like the model's inputs. The
conversion runs in a process of its own (finetune/exporters/convert.py): its libraries write to the
console as they like, and one of them (torchao) changes what transformers does once it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import DataError

EXTRA = "tflite"
MODULES = ("litert_torch", "ai_edge_quantizer", "ai_edge_litert")
SHOWN_LINES = 5  # of what a conversion that failed said last


def write(
    folder: Path, head: str, names: Sequence[str], lengths: Sequence[int], files: dict[str, Path]
) -> None:
    """Convert the model in `folder`: `files` has "tflite", and "tflite-int8" if it is wanted."""
    order = {
        "folder": str(folder),
        "head": head,
        "names": list(names),
        "lengths": list(lengths),
        "files": {name: str(file) for name, file in files.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "finetune.exporters.convert", json.dumps(order)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-SHOWN_LINES:])
        raise DataError(
            f"the TFLite conversion of {folder} ended with code {done.returncode}: {last}; "
            "set export.tflite = false, or report this with the versions in run.json"
        )


def fitting(lengths: Sequence[int], max_length: int) -> list[int]:
    """The lengths a model can have, shortest first: those up to its own. Raises DataError if there
    is none."""
    found = sorted({length for length in lengths if length <= max_length})
    if not found:
        raise DataError(
            f"export.tflite_lengths {list(lengths)} all exceed the model's {max_length} tokens; "
            f"give lengths up to {max_length}"
        )
    return found
