"""What several tests of launching use."""

from pathlib import Path

import pytest

from tests.launch import tiny


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A small recipe with its data beside it."""
    return tiny.write(tmp_path)
