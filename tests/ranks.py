"""Start real ranks of a command: plain processes with the environment a launcher would set."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Finished:
    """What became of each rank."""

    exit_codes: list[int]
    outputs: list[str]  # stdout and stderr of each rank

    @property
    def text(self) -> str:
        return "\n".join(f"--- rank {i}\n{text}" for i, text in enumerate(self.outputs))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_ranks(
    arguments: Sequence[str | Path],
    world_size: int,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    when_running: Callable[[list[subprocess.Popen[bytes]]], None] | None = None,
    timeout_seconds: float = 300,
) -> Finished:
    """Run `python ARGUMENTS` as `world_size` ranks and wait for all of them.

    `when_running` may signal the processes; they are all ended when the time is over.
    """
    port = free_port()
    logs = [folder / f"rank-{rank}-{port}.log" for rank in range(world_size)]
    processes = []
    for rank, log in enumerate(logs):
        ranked = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **(environment or {}),
        }
        with log.open("wb") as output:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *map(str, arguments)],
                    env=ranked,
                    cwd=folder,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        if when_running is not None:
            when_running(processes)
        deadline = time.monotonic() + timeout_seconds
        codes = [process.wait(max(0.1, deadline - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    return Finished(codes, [log.read_text(errors="replace") for log in logs])


def wait_for(claim: Callable[[], bool], what: str, timeout_seconds: float = 120) -> None:
    """Poll until the claim holds; fails with `what` if it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds:.0f} s in vain for: {what}")
        time.sleep(0.05)
