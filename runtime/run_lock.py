"""One job at a time in a folder, on one machine or on many that share it.

A lock is a small JSON file that says who owns the folder. It is made whole under a name of its own
and then linked to its place: the only way to take a name exclusively that open(2) recommends where
NFS may be in play. Its owner touches it every few seconds.

Whether the owner still lives is known for sure where its process can be seen (same boot of the same
machine, same container). From elsewhere a contender sees only whether the file is touched; it
watches for a while, so that clocks need not agree.

A lock whose owner is gone is replaced by renaming a new one over it, by the one contender that
holds the lock of the lock: its name ends in the dead owner's token, which never comes again. An
owner that was only suspended finds another token in its place (`is_mine`) and must not write any
more.
"""

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from runtime.errors import BusyError, DataError, LostRankError
from runtime.redaction import redacted

BEAT_SECONDS = 5.0
# Without a touch, as a contender on another machine sees it: NFS may show a file as it was a
# minute ago.
SILENT_SECONDS = 90.0
HANDOVER_SECONDS = 120.0  # that a job which was queued again waits for its earlier start to end
POLL_SECONDS = 0.5
SAME_START_SECONDS = 0.5  # the clock may have been set since


@dataclass(frozen=True)
class Owner:
    """Who owns a folder."""

    token: str
    inode: int  # of the lock's file: a copy of the folder is not locked by whom it names
    host: str
    place: str  # which start of which system, and where in it process ids mean the same
    pid: int
    began: float  # Unix seconds: with the pid that tells processes apart
    user: str
    command: str
    since: str
    job: str | None  # SLURM's job id

    def __str__(self) -> str:
        job = f", SLURM job {self.job}" if self.job else ""
        return f"process {self.pid} of {self.user} on {self.host}{job}, since {self.since}"


def this_process(token: str, inode: int) -> Owner:
    process = psutil.Process()
    return Owner(
        token=token,
        inode=inode,
        host=socket.gethostname(),
        place=place(),
        pid=process.pid,
        began=process.create_time(),
        user=process.username(),
        command=redacted(" ".join(sys.orig_argv), os.environ)[:200],
        since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        job=os.environ.get("SLURM_JOB_ID"),
    )


def place() -> str:
    """Changes whenever the system starts, and from container to container."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if not path.exists():
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"
    return f"{path.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def path_of(output: Path, stage: str) -> Path:
    """The lock of a stage of a run."""
    return output / "locks" / f"{stage}.json"


held: dict[Path, "Lock"] = {}  # by this process


def check_held() -> None:
    """Raises LostRankError if another job has taken over something that this process owns."""
    for lock in list(held.values()):
        lock.check()


class Lock:
    """A lock that this process holds."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        held[path] = self
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.beat, name="run lock", daemon=True)
        self.thread.start()

    def beat(self) -> None:
        """Touch the file until the lock is released."""
        while not self.ends.wait(BEAT_SECONDS):
            with suppress(OSError):  # a full disk or a dead link shows itself elsewhere
                if self.is_mine():
                    os.utime(self.path)

    def is_mine(self) -> bool:
        """False once another job has taken over."""
        found = read(self.path)
        return found is not None and found.token == self.owner.token

    def check(self) -> None:
        """Raises LostRankError if another job has taken over: this one must write nothing more."""
        if not self.is_mine():
            raise LostRankError(
                f"another job has taken over this run while this one stood still "
                f"({read(self.path) or 'it has ended since'}); nothing more is written here"
            )

    def release(self) -> None:
        held.pop(self.path, None)
        self.ends.set()
        self.thread.join()
        with suppress(OSError):
            if self.is_mine():
                self.path.unlink()


@contextmanager
def owned(path: Path, what: str) -> Iterator[Lock]:
    """Own what `path` stands for inside the block. Raises BusyError, which names the owner."""
    lock = acquire(path, what)
    try:
        yield lock
    finally:
        lock.release()


def acquire(path: Path, what: str) -> Lock:
    """Take a lock, waiting only for an earlier start of this same SLURM job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    draft = path.with_name(f".{path.name}.{token}")
    with draft.open("w", encoding="utf-8") as file:
        me = this_process(token, os.fstat(file.fileno()).st_ino)
        json.dump(asdict(me), file)
    try:
        while True:
            if linked(draft, path):
                return Lock(path, me)
            owner = read(path)
            if owner is None:  # released in between
                continue
            if not is_gone(path, owner, me):
                raise BusyError(
                    f"{what} is in use by {owner} ({owner.command}); wait for it or stop it, or "
                    "give this recipe another `output`. If you are sure that it is gone, "
                    f"remove {path}"
                )
            if replaced(draft, path, owner, what):
                return Lock(path, me)
    finally:
        draft.unlink(missing_ok=True)


def linked(draft: Path, path: Path) -> bool:
    """Give the draft the lock's name, if nobody has it."""
    try:
        os.link(draft, path)
    except FileExistsError:
        # Over NFS the answer to a link that was made may get lost: then the draft has two names.
        return draft.stat().st_nlink == 2
    return True


def replaced(draft: Path, path: Path, dead: Owner, what: str) -> bool:
    """Rename the draft over the lock of an owner that is gone, if that is still its lock."""
    with owned(path.with_name(f"{path.name}.{dead.token}"), what):
        found = read(path)
        if found is None or found.token != dead.token:
            return False
        draft.rename(path)
    return True


def read(path: Path) -> Owner | None:
    """The owner in a lock; None if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return Owner(**json.loads(text))
    except (TypeError, ValueError):
        raise DataError(
            f"{path} should say which job uses this folder, and is damaged; remove it if no job "
            "runs there"
        ) from None


def is_gone(path: Path, owner: Owner, me: Owner) -> bool:
    """Whether the owner of a lock will never come back to it."""
    with suppress(FileNotFoundError):
        if path.stat().st_ino != owner.inode:
            return True
    is_requeued = owner.job is not None and owner.job == me.job
    patience = HANDOVER_SECONDS if is_requeued else 0.0
    if (owner.place, owner.pid, owner.began) == (me.place, me.pid, me.began):
        return path not in held  # we could not remove it
    if owner.place == me.place:
        return waited(lambda: not is_alive(owner), patience)
    return is_silent(path, owner, patience)


def waited(claim: Callable[[], bool], seconds: float) -> bool:
    """Whether the claim holds, now or within these seconds."""
    ends = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > ends:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_alive(owner: Owner) -> bool:
    """Whether the process of an owner on this machine runs."""
    try:
        process = psutil.Process(owner.pid)
        is_same = abs(process.create_time() - owner.began) < SAME_START_SECONDS
        return is_same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_silent(path: Path, owner: Owner, patience: float) -> bool:
    """Watch the lock of an owner on another machine: False as soon as it is touched, unless we have
    patience with it; True if it is not touched for long, or released."""
    began = last = time.monotonic()
    touched = touch_of(path)
    while time.monotonic() - last < SILENT_SECONDS:
        time.sleep(POLL_SECONDS)
        found = read(path)
        if found is None or found.token != owner.token:
            return True  # the caller looks again
        if touch_of(path) != touched:
            if time.monotonic() - began > patience:
                return False
            touched, last = touch_of(path), time.monotonic()
    return True


def touch_of(path: Path) -> int:
    """When the file was touched, as its file system says; opened, so that NFS asks the server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0
