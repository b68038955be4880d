"""One stage as a process: its command, its environment, its output, its signals, its exit code.

data_prep and single-rank stages run as `python -m STAGE`; several ranks go through DeepSpeed's own
runner. What the processes print goes to the log whole and to the console without the libraries'
chatter. A stop signal is passed to the rank processes by their ids: the runner itself must not get
it, because it kills its ranks 30 seconds later whether they have saved or not. For the same reason
the processes get a session of their own, which a Ctrl-C in the terminal does not reach.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import TextIO

import psutil

from runtime import starting
from runtime.config import Recipe

RANKED = ("pretrain", "finetune")  # stages that train, one process a rank
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
START_SECONDS = 20.0  # for a launcher to start its ranks
# Signals that end a process unasked; a shell reports n as 128 + n, DeepSpeed's runner as 256 - n.
FATAL = {
    *(signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGABRT),
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE),
}
# Lines of the libraries that say nothing about the run. Everything is in the log.
NOISE = re.compile(
    r"\[\d{4}-\d\d-\d\d [\d:,]+\] \[(?:INFO|WARNING|ERROR)\]|"  # deepspeed's logger
    r"\[?[IWE]\d{4} [\d:.]+|\[W\d{3,} |\[rank\d+\]:\[W|"  # torch's C++ and Python loggers
    r"\[Gloo\]|Setting ds_accelerator|Warning: The cache directory for DeepSpeed|"
    r".*(?:Future|Deprecation|User|Runtime)Warning: |\s+warnings\.warn\(|\s*$"
)


@dataclass(frozen=True)
class Outcome:
    """How a stage process ended."""

    exit_code: int
    signal_name: str | None  # that ended it, if one did
    stop_requested: bool  # a stop signal came while it ran


def command(stage: str, recipe: Path, overrides: Sequence[str], ranks: int) -> list[str]:
    """The command line that runs a stage."""
    arguments = [str(recipe), *overrides]
    if stage not in RANKED or ranks == 1:
        return [sys.executable, "-m", stage, *arguments]
    return [
        *(sys.executable, "-m", "deepspeed.launcher.runner", "--quiet"),
        *("--num_gpus", str(ranks), "--master_port", str(starting.free_port())),
        *("--no_local_rank", "--module", stage, *arguments),
    ]


def environment(stage: str, recipe: Recipe) -> dict[str, str]:
    """The environment of a stage; what the user has set stays."""
    ranks = recipe.launch.ranks if stage in RANKED else 1
    threads = recipe.engine.threads_per_rank or max(1, (os.cpu_count() or 1) // ranks)
    defaults = starting.variables(recipe.output / "cache")
    if stage in RANKED:
        defaults |= starting.rank_variables(threads)
    return defaults | os.environ


def run(stage: str, arguments: Sequence[str], env: dict[str, str], log: Path) -> Outcome:
    """Run a stage to its end; its output is appended to `log` and shown without noise."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        arguments,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    with log.open("a", encoding="utf-8") as file, forwarded(process, stage) as received:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"--- {stamp} pid {process.pid}: {' '.join(arguments)}\n")
        relay(process.stdout, file)
        code = process.wait()
    number = ending_signal(code)
    return Outcome(
        exit_code=code,
        signal_name=signal.Signals(number).name if number else None,
        stop_requested=bool(received),
    )


def relay(output: Iterable[str], log: TextIO) -> None:
    """Copy every line to the log; print those of ours, an error that all ranks report once."""
    told = set()
    for line in output:
        log.write(line)
        log.flush()
        if NOISE.match(line) or line in told:
            continue
        if line.startswith("textmill: "):
            told.add(line)
        print(line, end="", flush=True)


def ending_signal(code: int) -> int | None:
    """The signal behind an exit code: negative, as a shell says it, or as DeepSpeed's runner."""
    if code < 0:
        return -code
    return next((number for number in (code - 128, 256 - code) if number in FATAL), None)


@contextmanager
def forwarded(process: subprocess.Popen[str], stage: str) -> Iterator[list[int]]:
    """Pass stop signals on to the stage's own processes; a second one ends them at once."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        name = signal.Signals(number).name
        if len(received) == 1:
            say(f"textmill: {name} received, {stage} stops as soon as it has saved\n")
            # Not here: ranks that are still being started are waited for.
            Thread(target=stop, args=(process, stage), daemon=True).start()
        elif len(received) == 2:
            say(f"textmill: {name} received again, ending {stage} without saving\n")
            for target in [*stage_processes(process.pid, stage), process.pid]:
                send(target, signal.SIGKILL)

    before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Print from a signal handler, which may have come in the middle of another print."""
    os.write(1, text.encode())


def stop(process: subprocess.Popen[str], stage: str) -> None:
    """Send SIGTERM to every rank once all of them are there, or to those that are after a while."""
    deadline = time.monotonic() + START_SECONDS
    found = stage_processes(process.pid, stage)
    known = None
    while process.poll() is None and time.monotonic() < deadline and found != known:
        time.sleep(0.5)  # the launcher starts its ranks within milliseconds of each other
        known, found = found or None, stage_processes(process.pid, stage)
    for target in found:
        send(target, signal.SIGTERM)


def stage_processes(pid: int, stage: str) -> list[int]:
    """The processes that run the stage's module: the one we started, or the launcher's ranks."""
    try:
        started = psutil.Process(pid)
        if is_stage_command(started.cmdline(), stage):
            return [pid]  # its workers have the same command line, and it looks after them
        family = started.children(recursive=True)
    except psutil.Error:
        return []
    found = []
    for member in family:
        try:
            if is_stage_command(member.cmdline(), stage):
                found.append(member.pid)
        except psutil.Error:
            continue  # it ended while we looked
    return sorted(found)


def is_stage_command(line: Sequence[str], stage: str) -> bool:
    """True for `python [-u] -m STAGE ...`; DeepSpeed's runner and launcher name it further on."""
    modules = [word for before, word in pairwise(line) if before == "-m"]
    return modules[:1] == [stage]


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended by itself in between
        os.kill(pid, number)
