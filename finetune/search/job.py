"""The processes of one trial: started, watched, told to stop, ended.

Only processes that were started here are ever signalled: by their ids, or, to end one that does not
stop, by the process group it leads. Each leads a session of its own, which a Ctrl-C in the terminal
does not reach. `processes.json` in the trial's folder names them, so that a later start finds those
that outlived their driver. Imports neither torch nor optuna.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil

from finetune.search.starts import Start
from runtime import provenance
from runtime.errors import RESUME_ME

LOG = "log.txt"
PROCESSES = "processes.json"
STOP_SECONDS = 300.0  # for a trial to save after it was told to stop
FAILED_SECONDS = 30.0  # for the other ranks to end after one has failed
REMOTE_SECONDS = 60.0  # for a command on another machine


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
        return subprocess.Popen(
            start.line,
            env=start.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Job:
    """A trial that runs."""

    def __init__(self, starts: Sequence[Start], folder: Path, starter: Starter = popen) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.starts = starts
        self.log = folder / LOG
        self.log_start = self.log.stat().st_size if self.log.is_file() else 0
        self.started = time.monotonic()
        self.is_stopping = False
        self.ends_at: float | None = None  # on the monotonic clock: killed then
        self.processes = [starter(start, self.log) for start in starts]
        running = [{"pid": each.pid, "created": created(each.pid)} for each in self.processes]
        provenance.write_json(folder / PROCESSES, running)

    def poll(self) -> list[int] | None:
        """The exit codes once all processes have ended; ends those whose time is over."""
        codes = [process.poll() for process in self.processes]
        ended = [code for code in codes if code is not None]
        if len(ended) == len(codes):
            (self.folder / PROCESSES).unlink(missing_ok=True)
            return ended
        if self.ends_at is None and any(ended):
            self.ends_at = time.monotonic() + FAILED_SECONDS
        if self.ends_at is not None and time.monotonic() > self.ends_at:
            self.kill()
        return None

    def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Tell all ranks to save and end; asked twice, it changes nothing."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.ends_at = time.monotonic() + grace_seconds
        for process, start in zip(self.processes, self.starts, strict=True):
            if process.poll() is None:
                if start.stop_line is None:
                    process.send_signal(signal.SIGUSR1 if start.is_step else signal.SIGTERM)
                else:
                    run_there(start.stop_line)

    def kill(self) -> None:
        """End what still runs."""
        for process, start in zip(self.processes, self.starts, strict=True):
            if process.poll() is not None:
                continue
            if start.kill_line is not None:
                run_there(start.kill_line)
            if start.is_step:
                process.send_signal(signal.SIGTERM)  # srun ends its tasks at this
            else:
                kill_group(process.pid)

    def has_saved(self, codes: Sequence[int]) -> bool:
        """True if the trial ended because it was told to, by us or by someone else."""
        of_a_step = {0} if any(start.is_step for start in self.starts) else set()
        return self.is_stopping or set(codes) == {RESUME_ME} or set(codes) == of_a_step

    def error(self) -> str:
        """What the log of this start says of its end: the last error, else the last line."""
        return last_error(self.log, self.log_start)


def created(pid: int) -> float | None:
    """When a process was started, which tells it from another of the same number later."""
    with suppress(psutil.Error):
        return float(psutil.Process(pid).create_time())
    return None


def run_there(line: Sequence[str]) -> None:
    """Run a command that reaches another machine; what it cannot end there, is gone there."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(line, capture_output=True, check=False, timeout=REMOTE_SECONDS)


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


def end_leftovers(folder: Path, grace_seconds: float = STOP_SECONDS) -> int:
    """Stop what an earlier driver left running in a trial's folder; returns how many there were.

    Without this two processes would write one run.
    """
    path = folder / PROCESSES
    if not path.is_file():
        return 0
    found = [process for entry in json.loads(path.read_text()) if (process := same(entry))]
    for process in found:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=grace_seconds)
    for process in alive:
        kill_group(process.pid)
    psutil.wait_procs(alive, timeout=FAILED_SECONDS)
    path.unlink(missing_ok=True)
    return len(found)


def same(entry: dict[str, Any]) -> psutil.Process | None:
    """The process that was noted, if it still runs on this machine."""
    if entry["created"] is None or created(entry["pid"]) != entry["created"]:
        return None
    process = psutil.Process(entry["pid"])
    return None if process.status() == psutil.STATUS_ZOMBIE else process
