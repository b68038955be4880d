"""Installs Debian packages that a test needs, where it may."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest


class Unavailable(Exception):
    """Why the packages are not here."""


def install(packages: Sequence[str]) -> None:
    """Install packages with apt-get as root. Raises Unavailable with the reason."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Unavailable(f"install {' and '.join(packages)} (only root can, with apt-get)")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # apt-get refuses to run twice at once, and tests do.
    with (Path(tempfile.gettempdir()) / "textmill-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arguments in (
            ["update", "-q"],
            ["install", "-yq", "--no-install-recommends", *packages],
        ):
            command = ["apt-get", *arguments]
            ended = subprocess.run(command, env=environment, capture_output=True, text=True)
            if ended.returncode:
                raise Unavailable(f"{' '.join(command)} failed: {ended.stderr.strip()[-500:]}")


def install_or_skip(packages: Sequence[str]) -> None:
    """Install packages; where that cannot be, skip the test, but not in CI."""
    try:
        install(packages)
    except Unavailable as reason:
        if must_be_there():
            raise
        pytest.skip(str(reason))


def must_be_there() -> bool:
    """True where a test may not be skipped for want of a package: in CI, as root."""
    return bool(os.environ.get("CI")) and os.geteuid() == 0
