"""Export the trained encoder: an ordinary `save_pretrained` folder with its tokenizer.

`AutoModel.from_pretrained(folder)` and `AutoTokenizer.from_pretrained(folder)` just work; there is
no conversion step. Weights are the optimizer's fp32 ones. `textmill.json` carries the fingerprints
that fine-tuning checks.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from runtime import processes, provenance
from runtime.engine import Engine, full_shape
from runtime.errors import DataError

FACTS = "textmill.json"


def export(
    engine: Engine,
    model: PreTrainedModel,
    prefix: str,
    tokenizer: Path,
    folder: Path,
    facts: Mapping[str, Any],
) -> None:
    """Write `folder` whole or not at all. All ranks call it.

    `prefix` is where `model` sits in the engine's module, for example "model.". Raises DataError if
    a written tensor does not have the shape the model says.
    """
    parameters = engine.full_parameters()
    if parameters is not None:
        temporary = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        state = {name.removeprefix(prefix): value for name, value in parameters.items()}
        model.config.dtype = torch.float32
        # Under the names of today: checkpoints with LayerNorm.gamma would be written back so.
        model.save_pretrained(temporary, state_dict=state, save_original_format=False)
        check_shapes(temporary, model)
        for file in sorted(tokenizer.iterdir()):
            shutil.copyfile(file, temporary / file.name)
        fingerprint = provenance.file_fingerprint(temporary / "tokenizer.json")
        provenance.write_json(temporary / FACTS, {"tokenizer": fingerprint, **facts})
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        provenance.fsync_folder(folder.parent)
    processes.barrier()


def check_shapes(folder: Path, model: PreTrainedModel) -> None:
    """A sharded model saved without gathering writes empty tensors and no error: look."""
    found: dict[str, list[int]] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            names = tensors.keys()
            found |= {name: tensors.get_slice(name).get_shape() for name in names}
    for name, parameter in model.named_parameters():
        expected = list(full_shape(parameter))
        if found.get(name) != expected:
            raise DataError(
                f"export {folder}: {name} was written as {found.get(name)}, the model has "
                f"{expected}; report this together with the versions in run.json"
            )
