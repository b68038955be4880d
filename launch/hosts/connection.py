"""The driver's end of the line to one agent: a child process, or ssh to another machine."""

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from launch.hosts import messages, ssh
from launch.hosts.messages import Message
from launch.hosts.nodes import Node

MODULE = "launch.node"
KEPT_LINES = 20  # of what is printed beside reports
CLOSE_SECONDS = 10.0
KILLED_THERE = 255  # of ssh, which also says why if it is the link


@dataclass(frozen=True)
class Event:
    """Something that came from an agent; without a message: its end."""

    source: "Connection"
    message: Message | None
    received: float  # on our monotonic clock


Events = SimpleQueue[Event | str]  # a string: what a signal asks for


class Connection:
    """An agent that was started. Its reports and its end go to `events`."""

    def __init__(self, number: int, node: Node, folder: str, events: Events) -> None:
        self.number = number
        self.node = node
        self.noise: deque[str] = deque(maxlen=KEPT_LINES)
        self.errors: deque[str] = deque(maxlen=KEPT_LINES)
        self.outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        self.processes: list[Message] = []  # the agent and its ranks, as `leftovers` knows them
        self.lag = float("inf")  # our clock minus that of the agent, and the quickest way
        self.is_over = False
        self.process = subprocess.Popen(
            line(node, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the driver's, and ssh must not ask on the terminal
        )
        self.errors_thread = threading.Thread(target=self.collect, daemon=True)
        self.errors_thread.start()
        for work in (self.listen, self.write):
            args = (events,) if work == self.listen else ()
            threading.Thread(target=work, args=args, daemon=True).start()

    def listen(self, events: Events) -> None:
        """Pass reports on until there are no more."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            message = messages.reported(text)
            if message is None:
                self.noise.append(text.decode(errors="replace").rstrip())
            else:
                events.put(Event(self, message, time.monotonic()))
        events.put(Event(self, None, time.monotonic()))

    def collect(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            if text.strip():
                self.errors.append(text.decode(errors="replace").rstrip())

    def write(self) -> None:
        """Send orders; a link that hangs must not stop the driver."""
        assert self.process.stdin is not None
        with suppress(OSError):  # its end comes from `listen`
            while (text := self.outgoing.get()) is not None:
                self.process.stdin.write(text)
                self.process.stdin.flush()
        with suppress(OSError):
            self.process.stdin.close()

    def tell(self, do: str, **facts: Any) -> None:
        self.outgoing.put(messages.order(do, **facts))

    def when(self, event: Event) -> float:
        """When the agent sent a report, on our clock."""
        assert event.message is not None
        at = float(event.message["at"])
        self.lag = min(self.lag, event.received - at)
        return at + self.lag

    def close(self) -> None:
        """Let the agent end, and see that our process ends."""
        self.outgoing.put(None)
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def end_in_words(self) -> str:
        """How our process has ended, and what it said on stderr."""
        self.close()
        self.errors_thread.join(CLOSE_SECONDS)
        code = self.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        who = "its agent" if self.node.host is None else "ssh"
        said = "; ".join(self.errors) or "; ".join(self.noise)
        if not said and code == KILLED_THERE:
            said = "its agent there was killed"
        return f"{who} ended with {how}" + (f": {said}" if said else "")


def line(node: Node, folder: str) -> Sequence[str]:
    """The command that starts the agent of a node."""
    if node.host is None:
        return [sys.executable, "-m", MODULE]
    return ssh.module(node.host, MODULE, folder)
