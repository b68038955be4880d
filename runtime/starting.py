"""What every process that trains is started with. Imports nothing heavy."""

import random
import socket
from contextlib import suppress
from pathlib import Path

from runtime.errors import LostRankError
from runtime.watchdog import launcher

# Below those that the kernel gives to any connection: one that is free now is so in a minute.
PORTS = range(20000, 32000)


def free_port() -> int:
    """A TCP port of this machine that nothing listens on, drawn so that two runs do not meet."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as found, suppress(OSError):
            found.bind(("", port))
            return port
    raise LostRankError("no TCP port is free for the ranks to meet; end what holds them")


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
