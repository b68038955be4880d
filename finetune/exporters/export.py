"""Export a fine-tuned model to ONNX and prove that it computes the same.

`model.onnx` takes `input_ids` and `attention_mask` (and `token_type_ids` for pairs), int64, any
batch and length up to the model's, and gives `logits`. The proof runs real rows through torch and
ONNX Runtime; a difference over the tolerance is an error and the file is removed.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finetune import predict, runners
from finetune.collate import MODEL_INPUTS, collate
from finetune.config import Export
from finetune.predict import Predictor
from finetune.task import Dataset
from runtime import processes
from runtime.errors import DataError, TextmillError

log = logging.getLogger("textmill")


class Exportable(nn.Module):
    """A model as a function of arrays in a fixed order."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *arrays: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, arrays, strict=True))).logits
        return logits


def on_rank_0(folder: Path, table: Export, rows: Dataset) -> dict[str, Any] | None:
    """Export if the recipe asks for it. All ranks call it; a failure is raised on all of them."""
    found: dict[str, Any] | None = None
    fault: str | None = None
    if table.onnx and processes.rank() == 0:
        try:
            found = {"onnx": export_onnx(folder, table, rows)}
        except TextmillError as error:
            fault = str(error)
    fault = processes.from_rank_0(fault)
    if fault is not None:
        raise DataError(fault)
    return found


def export_onnx(folder: Path, table: Export, rows: Dataset) -> dict[str, Any]:
    """Write model.onnx beside the model and return the parity with torch on rows of a file.

    Raises DataError if a logit differs by more than the tolerance.
    """
    try:
        import onnx  # noqa: F401  an extra
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise DataError(f"ONNX export needs {error.name}: pip install 'textmill[onnx]'") from None
    reference = predict.load(folder)
    dataset = Dataset(rows.path, rows.rows[: table.parity_rows])
    file = folder / runners.ONNX_FILE
    write_onnx(reference, folder, dataset, file, table.opset)
    try:
        return parity(reference, predict.load(folder, "onnx"), dataset, table) | {
            "file": file.name,
            "bytes": file.stat().st_size,
            "opset": table.opset,
        }
    except DataError:
        file.unlink()
        raise


def write_onnx(
    predictor: Predictor, folder: Path, dataset: Dataset, file: Path, opset: int
) -> None:
    """Trace the model with batch and length left open."""
    model = runners.torch_model(folder, predictor.plugin.HEAD)
    windows = predictor.encode(dataset).windows
    windows = [windows[0], *windows][:3]  # a batch of one would fix that size
    arrays = collate(windows, predictor.plugin.HEAD, predictor.tokenizer.pad_id)
    names = [name for name in MODEL_INPUTS if name in arrays]
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    temporary = file.with_name(f".{file.name}")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exportable(model, names).eval(),
            tuple(torch.from_numpy(arrays[name]) for name in names),
            str(temporary),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(tuple(axes for _ in names),),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    temporary.replace(file)


def parity(
    reference: Predictor, exported: Predictor, dataset: Dataset, table: Export
) -> dict[str, Any]:
    """Largest difference of a logit and share of equal decisions."""
    encoded = reference.encode(dataset)
    wanted = np.concatenate(reference.logits(encoded))
    given = np.concatenate(exported.logits(encoded))
    difference = float(np.abs(wanted - given).max())
    agreement = float((wanted.argmax(axis=-1) == given.argmax(axis=-1)).mean())
    log.info(
        "onnx: largest difference %.1e, %.2f %% of %d decisions equal",
        difference, 100 * agreement, len(wanted),
    )  # fmt: skip
    if not difference <= table.parity_tolerance:
        raise DataError(
            f"the ONNX model differs from torch by up to {difference:.3g} in a logit, more than "
            f"export.parity_tolerance ({table.parity_tolerance:g}), and was removed; try another "
            "export.opset"
        )
    return {
        "max_difference": difference,
        "argmax_agreement": agreement,
        "outputs_compared": len(wanted),
        "tolerance": table.parity_tolerance,
    }
