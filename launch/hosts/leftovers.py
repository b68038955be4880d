"""Processes that an agent left behind: found again by pid and time of birth, and ended."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from launch.hosts.surroundings import boot
from runtime.watchdog import conduct

POLL_SECONDS = 0.1
KILLED_SECONDS = 10.0  # for the kernel to take them away


def noted(pid: int) -> dict[str, Any]:
    """What tells a process of this machine from all that have been and will be."""
    return {"pid": pid, "began": conduct.began(pid), "boot": boot()}


def runs(process: dict[str, Any]) -> bool:
    began = conduct.began(process["pid"])
    return bool(process["boot"] == boot() and process["began"] == began != 0)


def end(processes: Iterable[dict[str, Any]], grace_seconds: float) -> dict[str, Any]:
    """Wait for processes that have been told to end, then end them with what they have started.

    Returns how many had to be ended, and how many are there all the same.
    """
    left = wait(list(processes), grace_seconds)
    for process in left:
        with suppress(ProcessLookupError):
            if os.getpgid(process["pid"]) == process["pid"]:
                os.killpg(process["pid"], signal.SIGKILL)
            else:
                os.kill(process["pid"], signal.SIGKILL)
    return {"ended": len(left), "left": len(wait(left, KILLED_SECONDS))}


def wait(processes: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Those that still run after a time at most."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if runs(process)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(POLL_SECONDS)
    return left
