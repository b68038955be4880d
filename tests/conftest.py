"""Shared set-up of the tests: offline, CPU, and a private cache for DeepSpeed's builds."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

# Before anything imports torch or deepspeed: a killed build leaves a lock that hangs later starts.
os.environ.setdefault("TORCH_EXTENSIONS_DIR", tempfile.mkdtemp(prefix="textmill-extensions-"))
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    DS_ACCELERATOR="cpu",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most long tests come first: the last to end is then a short one."""
    long = Counter(
        item.path
        for item in items
        if item.get_closest_marker("distributed") or item.get_closest_marker("slow")
    )
    items.sort(key=lambda item: -long[item.path])
