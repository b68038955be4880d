"""What processes that train are started with."""

import subprocess
import sys
from pathlib import Path

from runtime import starting


def test_free_port_is_free() -> None:
    port = starting.free_port()
    probe = "import socket,sys; socket.socket().bind(('127.0.0.1', int(sys.argv[1])))"
    assert subprocess.run([sys.executable, "-c", probe, str(port)], check=False).returncode == 0


def test_builds_go_to_the_cache_and_ranks_know_their_threads(tmp_path: Path) -> None:
    shared = starting.variables(tmp_path / "cache")
    assert shared["TORCH_EXTENSIONS_DIR"] == str(tmp_path / "cache" / "torch_extensions")
    assert starting.rank_variables(3)["OMP_NUM_THREADS"] == "3"
