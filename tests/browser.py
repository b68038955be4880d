"""Chromium without a screen, for the tests that look at pages."""

import os
import shutil
import subprocess
from pathlib import Path

from tests import debian

# Without --disable-dev-shm-usage pages crash in containers, where /dev/shm is small.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
    "--disable-background-networking",
)  # fmt: skip


def shown(html: str, room: Path, script: str, width: int = 500) -> str:
    """A page as it is once `script`, at its end, has run, in a window `width` pixels wide.

    Installs Chromium where it may, else skips. `room` is an empty folder for the browser.
    """
    if shutil.which("chromium") is None:
        debian.install_or_skip(["chromium"])
    page = room / "shown.html"
    page.write_text(html.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    done = subprocess.run(
        ["chromium", *OPTIONS, f"--window-size={width},900", "--dump-dom",
         f"--user-data-dir={room}/profile", f"file://{page}"],
        capture_output=True, text=True, timeout=180, check=True,
        env=os.environ | {"HOME": str(room)},
    )  # fmt: skip
    return done.stdout
