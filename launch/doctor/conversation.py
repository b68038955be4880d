"""Talking to the probe on one host: start it, ask, wait for the answer, end it."""

import itertools
import json
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from launch.doctor.probe import MARK

KEPT_LINES = 20  # of what a host prints beside its answers
CLOSE_SECONDS = 3.0


class NoAnswer(Exception):
    """Why a host did not answer; the message is for people."""


class Late(NoAnswer):
    """The host is there, and has not answered in time."""


@dataclass(frozen=True)
class Opening:
    """How starting a probe went."""

    seconds: float
    error: str | None  # what was printed on stderr where it failed
    exit_code: int | None  # of ssh, srun or Python where it failed
    noise: tuple[str, ...]  # lines on stdout that are not the probe's


class Conversation:
    """One probe process. Answers may come in any order."""

    def __init__(self, host: str, command: Sequence[str], first_line: Mapping[str, Any]) -> None:
        self.host = host
        self.began = time.monotonic()
        self.numbers = itertools.count(1)
        self.noise: deque[str] = deque(maxlen=KEPT_LINES)
        self.errors: deque[str] = deque(maxlen=KEPT_LINES)
        self.opened: Future[Any] = Future()
        self.pending: dict[int, Future[Any]] = {0: self.opened}
        self.lock = threading.Lock()
        self.is_over = False
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is ours, and ssh must not ask on the terminal
        )
        self.threads = [
            threading.Thread(target=read, daemon=True) for read in (self.listen, self.collect)
        ]
        for thread in self.threads:
            thread.start()
        self.send(first_line)

    def send(self, line: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # gone: `listen` finds out
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()

    def listen(self) -> None:
        """Give each answer to who waits for it; at the end, tell those who still wait."""
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed under us
            for line in self.process.stdout:
                if line.startswith(MARK):
                    self.deliver(json.loads(line.removeprefix(MARK)))
                elif line.strip():
                    self.noise.append(line.rstrip())
        with self.lock:
            self.is_over = True
            waiting, self.pending = self.pending, {}
        for future in waiting.values():
            future.set_exception(NoAnswer("the connection ended"))

    def deliver(self, answer: Mapping[str, Any]) -> None:
        with self.lock:
            future = self.pending.pop(answer["id"], None)
        if future is None:  # nobody waits any more
            return
        if "error" in answer:
            future.set_exception(NoAnswer(answer["error"]))
        else:
            future.set_result(answer["answer"])

    def collect(self) -> None:
        assert self.process.stderr is not None
        with suppress(ValueError):
            for line in self.process.stderr:
                if line.strip():
                    self.errors.append(line.rstrip())

    def opening(self, deadline: float) -> Opening:
        """Wait until the probe is there, or has failed to start."""
        try:
            self.opened.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            text = "\n".join(self.errors) or "nothing came"
            return Opening(time.monotonic() - self.began, text, None, tuple(self.noise))
        except NoAnswer:
            code = self.process.wait()
            for thread in self.threads:
                thread.join(CLOSE_SECONDS)
            text = "\n".join(self.errors)
            return Opening(time.monotonic() - self.began, text, code, tuple(self.noise))
        return Opening(time.monotonic() - self.began, None, None, tuple(self.noise))

    def ask(self, check: str, call: str, arguments: Mapping[str, Any]) -> Future[Any]:
        """Ask for `call` of a check's module; the answer is a JSON value or NoAnswer."""
        future: Future[Any] = Future()
        with self.lock:
            if self.is_over:
                future.set_exception(NoAnswer("the connection ended"))
                return future
            number = next(self.numbers)
            self.pending[number] = future
        self.send({"id": number, "check": check, "call": call, "arguments": arguments})
        return future

    def close(self) -> None:
        """End the probe: by the end of its input, then by signals to the process we started."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSE_SECONDS)
                break
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.close()


def answer_of(future: Future[Any], deadline: float, seconds: float) -> Any:
    """The answer. Raises NoAnswer with the reason, Late if only the time is over."""
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise Late(f"no answer within {seconds:.0f} s") from None
