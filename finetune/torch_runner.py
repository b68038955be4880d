"""Run a fine-tuned model with torch, and show it to exporters as a function of arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finetune.heads import CLASSES
from finetune.runners import BATCH_TOKENS, Inputs, Runner
from pretrain.model.linear import use_fast_linear

BATCH_TOKENS_ON_GPU = 32768


class Exportable(nn.Module):
    """A model as a function of arrays in a fixed order."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = list(names)

    def forward(self, *arrays: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, arrays, strict=True))).logits
        return logits


def load(folder: Path, head: str) -> Any:
    """The model of an export, in evaluation mode and fp32."""
    return CLASSES[head].from_pretrained(folder, dtype=torch.float32).eval()


def open_model(
    folder: Path, head: str, threads: int | None = None, device_name: str | None = None
) -> Runner:
    """The model of an export on a device; None: a GPU if there is one. Sets the threads of the
    whole process if they are given."""
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device(device_name or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load(folder, head).to(device)
    use_fast_linear(model)

    def run(arrays: Inputs) -> NDArray[np.float32]:
        inputs = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(**inputs).logits.float().cpu().numpy()
        return logits

    return Runner(run, BATCH_TOKENS if device.type == "cpu" else BATCH_TOKENS_ON_GPU)
