"""The process of one trial: started, watched, told to stop, ended.

Only a process that was started here is ever signalled: by its id, or, to end one that does not
stop, by the process group it leads. It leads a session of its own, which a Ctrl-C in the terminal
does not reach. `process.json` in the trial's folder names it, so that a later start finds one that
outlived its driver. Imports neither torch nor optuna.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil

from finetune.search.starts import Start
from runtime import provenance
from runtime.errors import RESUME_ME

LOG = "log.txt"
PROCESS = "process.json"
STOP_SECONDS = 300.0  # for a trial to save after it was told to stop
KILLED_SECONDS = 30.0  # for the kernel to take away what was killed


class Process(Protocol):
    """The part of `subprocess.Popen` that is used."""

    pid: int

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def send_signal(self, sig: int) -> None: ...


Starter = Callable[[Start, Path], Process]


def popen(start: Start, log: Path) -> Process:
    """Start a process; its output is appended to the log."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            start.line,
            env=start.environment,
            stdin=subprocess.DEVNULL if start.wanted is None else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if process.stdin is not None and start.wanted is not None:
        with suppress(BrokenPipeError), process.stdin as told:  # its log says why it ended
            told.write(start.wanted.to_json().encode())
    return process


class Job:
    """A trial that runs."""

    def __init__(self, start: Start, folder: Path, starter: Starter = popen) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.start = start
        self.log = folder / LOG
        self.log_start = self.log.stat().st_size if self.log.is_file() else 0
        self.started = time.monotonic()
        self.is_stopping = False
        self.is_killed = False
        self.ends_at: float | None = None  # on the monotonic clock: killed then
        self.process = starter(start, self.log)
        running = {"pid": self.process.pid, "created": created(self.process.pid)}
        provenance.write_json(folder / PROCESS, running)

    def poll(self) -> int | None:
        """The exit code once the process has ended; ends it if its time is over."""
        code = self.process.poll()
        if code is not None:
            (self.folder / PROCESS).unlink(missing_ok=True)
        elif self.ends_at is not None and time.monotonic() > self.ends_at:
            self.kill()
        return code

    def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Tell all ranks to save and end; asked twice, it changes nothing."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.ends_at = time.monotonic() + grace_seconds
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1 if self.start.is_step else signal.SIGTERM)

    def kill(self) -> None:
        """End what still runs."""
        if self.process.poll() is not None or self.is_killed:
            return
        self.is_killed = True
        if self.start.is_step:
            self.process.send_signal(signal.SIGTERM)  # srun ends its tasks at this
        elif self.start.wanted is not None:
            # It ends its ranks at an interrupt that is not the first signal; of two that wait for
            # it the lower number comes first.
            for number in (signal.SIGHUP, signal.SIGINT):
                self.process.send_signal(number)
        else:
            kill_group(self.process.pid)

    def has_saved(self, code: int) -> bool:
        """True if the trial ended because it was told to, by us or by someone else."""
        return self.is_stopping or code == (0 if self.start.is_step else RESUME_ME)

    def error(self) -> str:
        """What the log of this start says of its end: the last error, else the last line."""
        return last_error(self.log, self.log_start)


def created(pid: int) -> float | None:
    """When a process was started, which tells it from another of the same number later."""
    with suppress(psutil.Error):
        return float(psutil.Process(pid).create_time())
    return None


def kill_group(pid: int) -> None:
    """End a process that we started, and what it has started if it leads a group."""
    with suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def last_error(log: Path, start: int) -> str:
    """The last line that is one of our errors or ends a traceback, else the last line at all."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("textmill: ") and "Error: " in line]
    return (told or lines or ["it said nothing"])[-1].removeprefix("textmill: ")


def end_leftover(folder: Path, grace_seconds: float = STOP_SECONDS) -> bool:
    """Stop what an earlier driver left running in a trial's folder; returns whether it did.

    Without this two processes would write one run.
    """
    path = folder / PROCESS
    if not path.is_file():
        return False
    process = same(json.loads(path.read_text()))
    if process is not None:
        with suppress(psutil.Error):
            process.terminate()
        _, alive = psutil.wait_procs([process], timeout=grace_seconds)
        for each in alive:
            kill_group(each.pid)
        psutil.wait_procs(alive, timeout=KILLED_SECONDS)
    path.unlink(missing_ok=True)
    return process is not None


def same(entry: dict[str, Any]) -> psutil.Process | None:
    """The process that was noted, if it still runs on this machine."""
    if entry["created"] is None or created(entry["pid"]) != entry["created"]:
        return None
    process = psutil.Process(entry["pid"])
    return None if process.status() == psutil.STATUS_ZOMBIE else process
