"""One stage as processes: its command, its environment, its output, its signals, its exit code.

data_prep and a single rank run as a child, `python -m STAGE`; several ranks are started by an agent
on each of their machines (`launch/hosts/`). What is printed goes to the log, without secrets, and
to the console without the libraries' chatter as well. A stop signal is passed on to the processes
by their ids. They have sessions of their own, which a Ctrl-C in the terminal does not reach.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from launch.hosts.driver import Driver, Listener, Wanted
from launch.hosts.noise import is_noise
from runtime import starting
from runtime.config import Recipe
from runtime.redaction import Hide, redactor

RANKED = ("pretrain", "finetune")  # stages that train, one process a rank
STOP_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
SAME_PRESS_SECONDS = 1.0
between: list[int] = []  # stop signals that came while no stage ran


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    exit_code: int
    signal_name: str | None  # that ended it, if one did
    stop_requested: bool  # a stop signal came while it ran


def program(stage: str, recipe: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """What runs a stage, after the interpreter."""
    return ("-m", stage, str(recipe), *overrides)


def environment(stage: str, recipe: Recipe) -> dict[str, str]:
    """The environment of a stage of one process; what the user has set stays."""
    threads = recipe.engine.threads_per_rank or os.cpu_count() or 1
    defaults = starting.variables(recipe.output / "cache")
    if stage in RANKED:
        defaults |= starting.rank_variables(threads)
    return defaults | os.environ


def run(stage: str, program: Sequence[str], env: dict[str, str], log: Path) -> Outcome:
    """Run a stage of one process to its end."""
    line = [sys.executable, *program]
    started: list[subprocess.Popen[str]] = []

    def stop() -> None:
        for process in started:
            process.terminate()

    def end() -> None:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a group: its workers, too

    with Output(log, redactor(env)) as output, forwarded(stage, stop, end) as received:
        process = subprocess.Popen(
            line,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        started.append(process)
        if received:  # before there was a process to pass it on to
            stop()
        output.note(f"pid {process.pid}: {shlex.join(line)}")
        for text in process.stdout:
            output.show(text.rstrip("\n"))
        code = process.wait()
    return outcome(code, received)


def run_ranks(stage: str, wanted: Wanted, log: Path) -> Outcome:
    """Run a stage of several ranks to its end. Raises RecipeError if the machines cannot."""
    with Output(log, redactor(dict(os.environ) | wanted.environment)) as output:
        driver = Driver(wanted, Listener(output.show, output.note))
        with forwarded(stage, driver.stop, driver.kill) as received:
            output.note(shlex.join(["python", *wanted.program]))
            found = driver.run()
    return outcome(found.exit_code, received)


def outcome(code: int, received: Sequence[int]) -> Outcome:
    number = ending_signal(code)
    name = signal.Signals(number).name if number else None
    return Outcome(exit_code=code, signal_name=name, stop_requested=bool(received))


class Output:
    """The console and the log of a stage. A run goes on where one of them cannot be written."""

    def __init__(self, log: Path, hide: Hide) -> None:
        self.path = log
        self.hide = hide
        self.told: set[str] = set()
        self.has_failed = False  # to write to the log

    def __enter__(self) -> "Output":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def note(self, line: str) -> None:
        """A line for the log."""
        self.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {line}")

    def show(self, line: str) -> None:
        """A line for both; one of our own is shown once."""
        line = self.write(line)
        if is_noise(line) or line in self.told:
            return
        if line.startswith("textmill: "):
            self.told.add(line)
        with suppress(OSError):  # its reader or its terminal is gone
            print(line, flush=True)

    def write(self, line: str) -> str:
        hidden = self.hide(line)
        try:
            self.file.write(f"{hidden}\n".encode("utf-8", errors="replace"))
        except OSError as error:
            if not self.has_failed:
                self.has_failed = True
                self.show(f"textmill: {self.path} cannot be written: {error.strerror}")
        return hidden


def ending_signal(code: int) -> int | None:
    """The signal behind an exit code: negative, or as a shell says it."""
    number = -code if code < 0 else code - 128
    return number if number in {int(known) for known in signal.Signals} else None


@contextmanager
def forwarded(
    stage: str, stop: Callable[[], object], end: Callable[[], object]
) -> Iterator[list[int]]:
    """Pass a stop signal on; a Ctrl-C that is not the first ends the stage's processes at once.

    Nothing else does: schedulers send their signals more than once while a stage saves. A SIGHUP
    that is ignored, as under nohup, stays so.
    """
    received: list[int] = []
    began = time.monotonic()

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal began
        received.append(number)
        name, is_interrupt = signal.Signals(number).name, number == signal.SIGINT
        if len(received) == 1:
            began = time.monotonic()
            more = "; Ctrl-C again ends it without saving" if is_interrupt else ""
            say(f"textmill: {name} received, {stage} stops as soon as it has saved{more}\n")
            stop()
        elif is_interrupt and not is_same_press(received, time.monotonic() - began):
            say(f"textmill: {name} received again, ending {stage} without saving\n")
            end()

    with handled(forward):
        for number in between[:1]:  # it came just before
            forward(number, None)
        yield received


@contextmanager
def noted() -> Iterator[list[int]]:
    """Note the stop signals that come between stages: a stage that begins all the same is stopped
    at once."""
    between.clear()

    def note(number: int, frame: FrameType | None) -> None:
        between.append(number)
        if len(between) == 1:
            say(f"textmill: {signal.Signals(number).name} received, no other stage is started\n")

    try:
        with handled(note):
            yield between
    finally:
        between.clear()


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have stop signals go to a handler inside the block."""
    before = {
        number: signal.signal(number, handler)
        for number in STOP_SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)


def is_same_press(received: Sequence[int], seconds: float) -> bool:
    """Whether one Ctrl-C has come twice: by the terminal, and from a program around this one."""
    return set(received) == {signal.SIGINT} and seconds < SAME_PRESS_SECONDS


def say(text: str) -> None:
    """Print from a signal handler, which may have come in the middle of another print."""
    with suppress(OSError):
        os.write(1, text.encode())
