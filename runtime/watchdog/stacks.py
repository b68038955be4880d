"""Python stacks of all threads of this rank, in a file, on request and at a verdict.

`kill -QUIT PID` appends them at any time; Python's handler is written in C, so that it works also
while native code holds the interpreter. The file of a run that needed none is removed.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

SIGNAL = signal.SIGQUIT


class Stacks:
    """The file of one rank; open from the start, because later there may be no way to open it."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = path_of(folder, rank)
        self.file = self.path.open("a", encoding="utf-8")
        faulthandler.register(SIGNAL, file=self.file, all_threads=True)

    def write(self, reason: str) -> None:
        """Append the stacks of all threads, with their names."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        names = ", ".join(f"0x{t.ident or 0:016x} {t.name}" for t in threading.enumerate())
        self.file.write(f"--- {stamp} pid {os.getpid()}: {reason}\nthreads: {names}\n")
        self.file.flush()
        faulthandler.dump_traceback(self.file, all_threads=True)
        self.file.flush()

    def close(self) -> None:
        """Answer no signal any more; an empty file is removed."""
        faulthandler.unregister(SIGNAL)
        self.file.close()
        if self.path.is_file() and not self.path.stat().st_size:
            self.path.unlink()


def path_of(folder: Path, rank: int) -> Path:
    return folder / f"stacks-rank-{rank}.txt"


def flush_streams(seconds: float) -> None:
    """Flush what was printed; a thread that holds a stream's lock for ever does not keep us."""

    def flush() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()

    flushing = threading.Thread(target=flush, daemon=True)
    flushing.start()
    flushing.join(seconds)
