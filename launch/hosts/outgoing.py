"""What the agent has to say, when the link may be slow or dead: it never waits."""

import os
import selectors
import time
from collections import deque
from contextlib import suppress

MOST_BYTES = 1 << 22  # that wait; beyond it lines of output are left out (the log has them)
FLUSH_SECONDS = 5.0  # at the end


class Outgoing:
    """Bytes on their way to a pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.is_open = True
        self.is_watched = False
        os.set_blocking(pipe, False)

    def put(self, line: bytes, is_needed: bool = True) -> None:
        """Send a line, later if it cannot be now."""
        if self.is_open and (is_needed or self.size < MOST_BYTES):
            self.waiting.append(line)
            self.size += len(line)
            self.write()

    def write(self) -> None:
        """Write what the pipe takes now."""
        while self.waiting:
            line = self.waiting[0]
            try:
                written = os.write(self.pipe, line)
            except BlockingIOError:
                return
            except OSError:  # nobody reads any more
                self.is_open = False
                self.waiting.clear()
                return
            self.size -= written
            if written < len(line):
                self.waiting[0] = line[written:]
            else:
                self.waiting.popleft()

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have the selector say when more can be written, as long as there is something."""
        if bool(self.waiting) == self.is_watched:
            return
        if self.waiting:
            selector.register(self.pipe, selectors.EVENT_WRITE, self.write)
        else:
            with suppress(KeyError):
                selector.unregister(self.pipe)
        self.is_watched = bool(self.waiting)

    def flush(self) -> None:
        """Wait a while for the rest to go."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while self.waiting and time.monotonic() < deadline:
            self.write()
            time.sleep(0.05)
