"""Shared set-up of the tests: offline, CPU, and a private cache for DeepSpeed's builds."""

import atexit
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

# Before anything imports torch or deepspeed: a killed build leaves a lock that hangs later starts.
if "TORCH_EXTENSIONS_DIR" not in os.environ:  # in a worker it is there
    os.environ["TORCH_EXTENSIONS_DIR"] = tempfile.mkdtemp(prefix="textmill-extensions-")
    atexit.register(shutil.rmtree, os.environ["TORCH_EXTENSIONS_DIR"], ignore_errors=True)
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
