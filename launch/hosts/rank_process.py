"""One rank as a child of the agent on its machine: its output, its log, its end.

A rank leads a session and a process group of its own: a Ctrl-C in a terminal does not reach it, and
what it has started is ended with it. When the agent dies, the kernel sends the rank SIGTERM, from
its first instant on. Its output goes through the agent, which takes out secrets, into
`rank-N.log`; a log that cannot be written costs lines, never the run.
"""

import ctypes
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.redaction import Hide

CHUNK_BYTES = 1 << 16
LONGEST_LINE = 1 << 20  # bytes; more without a line's end are passed on as they are
KEPT_LINES = 40  # of the end of the output
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class RankProcess:
    """A rank that was started. The process that makes one must have a single thread."""

    def __init__(
        self,
        rank: int,
        program: Sequence[str],
        environment: Mapping[bytes, bytes],
        log: Path,
        hide: Hide,
    ) -> None:
        self.rank = rank
        self.log = log
        self.hide = hide
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.code: int | None = None
        self.log_error: str | None = None
        self.rest = b""  # a line whose end has not come
        agent = os.getpid()

        def follow_agent() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != agent:  # it died before the line above
                os._exit(128 + signal.SIGTERM)

        self.process = subprocess.Popen(
            program,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=follow_agent,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        os.set_blocking(self.output, False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def receive(self) -> bytes | None:
        """What has come of the output; None: nothing yet; empty: nothing more can come."""
        try:
            return os.read(self.output, CHUNK_BYTES)
        except BlockingIOError:
            return None

    def lines_of(self, received: bytes, is_all: bool = False) -> list[str]:
        """The lines that end in what was received, without secrets; they are in the log."""
        whole = self.rest + received
        is_all = is_all or len(whole) > LONGEST_LINE
        end = len(whole) if is_all else whole.rfind(b"\n") + 1
        self.rest = whole[end:]
        return self.taken(whole[:end])

    def taken(self, output: bytes) -> list[str]:
        if not output:
            return []
        text = self.hide(output.decode("utf-8", errors="replace"))
        if not text.endswith("\n"):
            text += "\n"
        self.write(text)
        lines = text.split("\n")[:-1]
        self.last_lines.extend(lines)
        return lines

    def write(self, text: str) -> None:
        """Append to the log of this rank."""
        try:
            with self.log.open("ab") as file:
                file.write(text.encode("utf-8", errors="replace"))
        except OSError as error:
            self.log_error = f"{self.log} cannot be written: {error.strerror}"

    def poll(self) -> list[str] | None:
        """None while the rank runs. At its end: its last lines; `code` is set, nothing is left."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        self.kill()  # its number and group are its own until it is waited for
        lines: list[str] = []
        while found := self.receive():
            lines += self.lines_of(found)
        lines += self.lines_of(b"", is_all=True)
        self.code = self.process.wait()
        return lines

    def terminate(self) -> None:
        """Ask the rank to save and end."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the rank and all that it has started."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
