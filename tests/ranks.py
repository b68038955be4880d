"""Start real ranks of a command: processes with the environment a launcher would set.

Most of what a rank costs is importing torch, transformers and DeepSpeed. Ranks are therefore forked
by one process a test session that has imported them (tests/rank_server.py); what they compute is
the same bit for bit, which tests/pretrain/test_resume.py checks once. Tests about the start itself
ask for `fresh` interpreters.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from tests import rank_server

ROOT = Path(__file__).resolve().parent.parent


class Rank(Protocol):
    """What tests do with a running rank: the part of `subprocess.Popen` that forked ones share."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class Server:
    """The process that forks ranks; it ends with this one."""

    def __init__(self, imported: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.rank_server", str(theirs.fileno()), *imported],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self.connection = ours
        self.answers = ours.makefile("r", encoding="utf-8")
        atexit.register(self.close)

    def ask(self, **request: object) -> dict[str, int | None]:
        self.connection.sendall(json.dumps(request).encode() + b"\n")
        line = self.answers.readline()
        if not line:
            raise RuntimeError(f"the server of ranks ended with code {self.process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        self.answers.close()
        self.connection.close()
        self.process.wait()


@cache
def server() -> Server:
    return Server(rank_server.IMPORTED)


class Forked:
    """A rank forked by the server."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        answer = server().ask(
            arguments=arguments, environment=environment, folder=str(folder), log=str(log)
        )
        assert answer["pid"] is not None
        self.pid = answer["pid"]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = server().ask(pid=self.pid)["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked rank", timeout or 0.0)
            time.sleep(0.02)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:  # else the number may belong to another process by now
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def interpreter(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """A rank that starts from nothing."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def variables(rank: int, world_size: int, port: int) -> dict[str, str]:
    """The environment of a rank on this machine."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


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
    when_running: Callable[[Sequence[Rank]], None] | None = None,
    timeout_seconds: float = 300,
    fresh: bool = False,
) -> Finished:
    """Run `python ARGUMENTS` as `world_size` ranks and wait for all of them.

    `when_running` may signal the processes; they are all ended when the time is over. Ranks with an
    `environment` of their own are fresh interpreters: imports may have read it.
    """
    port = free_port()
    logs = [folder / f"rank-{rank}-{port}.log" for rank in range(world_size)]
    ranks: list[Rank] = []
    try:
        for rank, log in enumerate(logs):
            ranked = {**variables(rank, world_size, port), **(environment or {})}
            start = interpreter if fresh or environment is not None else Forked
            ranks.append(start([str(argument) for argument in arguments], ranked, folder, log))
        if when_running is not None:
            when_running(ranks)
        deadline = time.monotonic() + timeout_seconds
        codes = [rank.wait(max(0.1, deadline - time.monotonic())) for rank in ranks]
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
                process.wait()
    return Finished(codes, [log.read_text(errors="replace") for log in logs])


def wait_for(claim: Callable[[], bool], what: str, timeout_seconds: float = 120) -> None:
    """Poll until the claim holds; fails with `what` if it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds:.0f} s in vain for: {what}")
        time.sleep(0.05)
