"""What every process that trains is started with. Imports nothing heavy."""

import socket
from pathlib import Path

from runtime.watchdog import launcher


def free_port() -> int:
    """A TCP port nothing listens on, so that two runs on a machine do not meet."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def variables(cache: Path) -> dict[str, str]:
    """Environment of a process of ours; DeepSpeed's builds go to `cache`."""
    return {
        "PYTHONUNBUFFERED": "1",
        launcher.LAUNCHED: "1",
        "TOKENIZERS_PARALLELISM": "false",
        # A build that was killed leaves a lock that blocks every later start on the same cache.
        "TORCH_EXTENSIONS_DIR": str((cache / "torch_extensions").absolute()),
    }


def rank_variables(threads: int) -> dict[str, str]:
    """What a rank gets beside these; `threads` are its CPU threads."""
    is_cpu_only = not Path("/dev/nvidiactl").exists()
    return {"OMP_NUM_THREADS": str(threads)} | ({"DS_ACCELERATOR": "cpu"} if is_cpu_only else {})
