"""The devices a test runs on: always the CPU, and CUDA where there is one (`pytest -m gpu`)."""

import pytest
import torch

CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def on(device: str) -> dict[str, str] | None:
    """What the environment of a rank says besides, for it to compute on a device."""
    return {"DS_ACCELERATOR": "cuda"} if device == "cuda" else None
