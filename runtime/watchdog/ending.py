"""The end of a rank after a verdict: the cause on stderr, stacks in files, then `os._exit`.

The interpreter is not taken down: its main thread may hang. A rank on the same machine that cannot
act is made to write its stacks (by SIGQUIT, whose handler needs no interpreter; SIGCONT wakes one
that was stopped) and then ended by SIGKILL, if its pid still belongs to it. SIGQUIT goes to its
main thread: another one, if it were the first to wake, would read the frames of a main thread that
runs, which change, and crash.
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.errors import LostRankError
from runtime.watchdog import conduct
from runtime.watchdog.report import Member
from runtime.watchdog.stacks import Stacks, flush_streams, path_of
from runtime.watchdog.verdict import Verdict

STACKS_SECONDS = 1.0  # for the stacks of ranks that cannot act
POLL_SECONDS = 0.02
FLUSH_SECONDS = 1.0
LAST_SECONDS = 8.0


class Ending:
    """Ends this rank."""

    def __init__(
        self, members: Sequence[Member], me: Member, stacks: Stacks, folder: Path, interval: float
    ) -> None:
        self.members = members
        self.me = me
        self.stacks = stacks
        self.folder = folder
        self.interval = interval  # seconds between beats

    def __call__(self, found: Verdict) -> None:
        """Does not return."""
        last = threading.Timer(LAST_SECONDS, os._exit, [found.exit_code])
        last.daemon = True  # whatever blocks: nobody reads our output, or its disk hangs
        last.start()
        try:
            # One write: several ranks share a terminal.
            os.write(2, f"textmill: {self.message(found)}\n".encode())
            if is_lost(found):
                with suppress(OSError):
                    self.stacks.write(found.cause)
                self.end_silent(found)
            else:
                self.stacks.close()
            flush_streams(FLUSH_SECONDS)
        finally:
            os._exit(found.exit_code)

    def message(self, found: Verdict) -> str:
        if not is_lost(found):
            return found.cause  # the error of another rank says what to do
        files = self.folder / "stacks-rank-*.txt"
        return f"{found.cause}; stacks of all ranks: {files}; run again"

    def end_silent(self, found: Verdict) -> None:
        """The first rank of a machine that can act looks after those of it that cannot; the others
        wait for it, so that no launcher comes between."""
        if not found.silent:
            return
        if 0 in found.silent:  # every rank comes to this verdict by itself
            time.sleep(2 * self.interval)
        is_busy = False
        for member in (self.members[rank] for rank in found.silent):
            near = [r for r in found.alive if self.members[r].machine == member.machine]
            if near and near[0] == self.me.rank:
                end(member, path_of(self.folder, member.rank), found.cause)
                is_busy = True
        if not is_busy:
            time.sleep(STACKS_SECONDS)


def is_lost(found: Verdict) -> bool:
    """False if a rank ended with an error that is none of the watchdog's."""
    return found.exit_code == LostRankError.exit_code


def end(member: Member, path: Path, cause: str) -> None:
    """End a process that cannot act, as soon as it has written its stacks."""
    with suppress(OSError):
        with path.open("a", encoding="utf-8") as file:
            file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {member.pid}: {cause}\n")
        before, ends = path.stat().st_size, time.monotonic() + STACKS_SECONDS
        send(member, signal.SIGQUIT, to_main_thread)
        send(member, signal.SIGCONT)  # after it: the stacks are the first thing a stopped one does
        last = before
        while time.monotonic() < ends:  # until all threads are there
            time.sleep(POLL_SECONDS)
            size = path.stat().st_size
            if size == last > before:
                break
            last = size
    send(member, signal.SIGKILL)


def send(member: Member, number: int, kill: Callable[[int, int], object] = os.kill) -> None:
    """Send a signal to a rank's process, if it is still that one."""
    with suppress(OSError):
        if conduct.began(member.pid) == member.began:
            kill(member.pid, number)


def to_main_thread(pid: int, number: int) -> None:
    """Send a signal that no other thread may take (tgkill of glibc 2.30; without it: any may)."""
    tgkill = getattr(ctypes.CDLL(None), "tgkill", None)
    if tgkill is None or tgkill(pid, pid, number) != 0:
        os.kill(pid, number)
