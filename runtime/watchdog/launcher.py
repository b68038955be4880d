"""A rank whose launcher has died must not train on alone: it asks for an ordinary stop."""

import os
import select
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

OUTPUTS = (1, 2)  # standard output and error
LAUNCHED = "TEXTMILL_LAUNCHED"
# Set by whoever starts a rank and waits for it; a command typed by hand may outlive its terminal.
NAMES = ("RANK", "SLURM_STEP_ID", LAUNCHED)


def is_launched(environment: Mapping[str, str]) -> bool:
    """True if a launcher started this process; ask before the process group is joined."""
    return any(name in environment for name in NAMES)


class Parent:
    """The process that started this one."""

    def __init__(self, log: Path) -> None:
        self.pid = os.getppid()
        self.log = log  # gets what is printed when nobody reads it any more
        self.is_gone = False
        self.handle: int | None = None
        with suppress(OSError):  # an old kernel: `tick` finds it a second later
            self.handle = os.pidfd_open(self.pid)

    def tick(self) -> None:
        """Stop this rank in the ordinary way once the parent is gone."""
        if os.getppid() == self.pid:
            return
        for output in OUTPUTS:
            if has_no_reader(output):
                replace(output, self.log)
        if not self.is_gone:
            self.is_gone = True
            self.close()
            text = f"textmill: the process that started this rank (pid {self.pid}) is gone\n"
            os.write(2, text.encode())
            if callable(signal.getsignal(signal.SIGTERM)):  # the handler that asks for a stop
                os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


def has_no_reader(output: int) -> bool:
    """True for a pipe whose other end is closed: a print into it would end the rank."""
    poll = select.poll()
    poll.register(output, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def replace(output: int, path: Path) -> None:
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, output)
        os.close(file)
