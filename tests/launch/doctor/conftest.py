"""What the tests of the doctor need of this machine."""

import os
import shutil

import pytest

from tests import debian
from tests.slurm_cluster import slurm  # noqa: F401  (a fixture)


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where mounts and networks of one's own cannot be made."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        if debian.must_be_there():
            raise AssertionError("unshare and nsenter (util-linux) are missing")
        pytest.skip("needs root, unshare and nsenter")
