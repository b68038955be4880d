"""Export the trained encoder: an ordinary `save_pretrained` folder with its tokenizer.

`AutoModel.from_pretrained(folder)` and `AutoTokenizer.from_pretrained(folder)` just work; there is
no conversion step. Weights are the optimizer's fp32 ones. `textmill.json` carries the fingerprints
that fine-tuning checks. An export is whole or absent, and a run goes on training after it as if
nothing had been written.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from runtime import checkpoint, provenance
from runtime.engine import Engine, full_shape
from runtime.errors import DataError, DiskError

FACTS = "textmill.json"


@dataclass(frozen=True)
class Exporter:
    """Writes the encoder of a run."""

    engine: Engine
    model: PreTrainedModel
    prefix: str  # where `model` sits in the engine's module, for example "model."
    tokenizer: Path  # folder, copied beside the weights
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the run, for textmill.json

    def write(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Export the weights as they are now. All ranks call it.

        `facts` of this export are added to those of the run. Raises DataError if a written tensor
        does not have the shape the model says, DiskError on all ranks if a write fails.
        """
        self.write_weights(self.engine.full_parameters(), folder, facts)

    def write_weights(
        self, parameters: Mapping[str, Tensor] | None, folder: Path, facts: Mapping[str, Any]
    ) -> None:
        """Export these weights, named as in the engine's module; those of rank 0 count."""
        checkpoint.on_rank_0(lambda: self.write_alone(parameters or {}, folder, facts))

    def write_alone(
        self, parameters: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]
    ) -> None:
        """Write `folder` whole or not at all; one rank calls it."""
        temporary = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        state = {
            name.removeprefix(self.prefix): value
            for name, value in parameters.items()
            if name.startswith(self.prefix)  # a loss has parameters too: a CRF's transitions
        }
        dtype = self.model.config.dtype  # save_pretrained sets it, in memory too
        try:
            # Under the names of today: checkpoints with LayerNorm.gamma would be written back so.
            self.model.save_pretrained(temporary, state_dict=state, save_original_format=False)
        except SafetensorError as error:
            raise DiskError(f"{error}: {temporary}") from None
        finally:
            self.model.config.dtype = dtype
        # It names the type of the forward pass; from_pretrained would round the weights to it.
        config = provenance.read_json(temporary / "config.json")
        provenance.write_json(temporary / "config.json", {**config, "dtype": "float32"})
        check_shapes(temporary, self.model)
        for file in sorted(self.tokenizer.iterdir()):
            shutil.copyfile(file, temporary / file.name)
        fingerprint = provenance.file_fingerprint(temporary / "tokenizer.json")
        told = {"tokenizer": fingerprint, **self.facts, **facts}
        provenance.write_json(temporary / FACTS, told)
        for file in temporary.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        provenance.fsync_folder(folder.parent)


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
