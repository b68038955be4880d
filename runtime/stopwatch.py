"""Where the seconds of training steps go: forward, backward, communication, optimizer.

Parts may lie in each other (a collective inside the backward pass); every moment belongs to the
innermost one. On CPU the clock is read. On CUDA an event is recorded on the stream and looked at
later, when the device has passed it: nothing waits for the device, and the seconds of a step may be
handed out a step late. Communication on other streams than the one that computes is counted only as
far as the computing stream waits for it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from runtime.watchdog.activity import activity

PARTS = ("forward", "backward", "communication", "optimizer")


class Stopwatch:
    """Of one engine. It runs from `start` until `take`; what happens in between costs nothing."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter):
        self.device = device
        self.clock = clock
        self.stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self.is_running = False
        self.open: list[str] = []  # the parts we are in, innermost last
        self.mark: Any = None  # when the innermost part began or went on
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.passed: deque[tuple[str, Any, Any]] = deque()  # on CUDA: part, first and last event

    def start(self) -> None:
        self.is_running = True

    def take(self) -> dict[str, float]:
        """Seconds of each part since the last call, or as many as the device has passed."""
        self.is_running = False
        while self.passed and self.passed[0][2].query():
            part, first, last = self.passed.popleft()
            self.seconds[part] += first.elapsed_time(last) / 1000
        taken, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return taken

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time spent here belongs to a part; the watchdog is told of it at any time."""
        with activity.inside(name):
            yield from self.counted(name)

    def counted(self, name: str) -> Iterator[None]:
        """As `part`, while the watch runs."""
        if not self.is_running or self.is_elsewhere():
            yield
            return
        self.turn(self.open[-1] if self.open else None)
        self.open.append(name)
        try:
            yield
        finally:
            self.turn(self.open.pop())

    def is_elsewhere(self) -> bool:
        """True on a stream beside the one that computes."""
        return self.stream is not None and torch.cuda.current_stream(self.device) != self.stream

    def turn(self, part: str | None) -> None:
        """Count the time since the last turn to a part, and begin anew."""
        if self.stream is None:
            now: Any = self.clock()
            if part is not None:
                self.seconds[part] += now - self.mark
        else:
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record(self.stream)
            if part is not None:
                self.passed.append((part, self.mark, now))
        self.mark = now
