"""What must hold after every fault: the run goes on to the result it would have had, says in one
line why it ended, with the exit code of docs/exit-codes.md, and leaves nothing behind.

The uninterrupted run of a shape is made once a session, whichever of its processes comes first: the
others wait for it at a lock in a folder they share.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from runtime import stages
from tests.pretrain import runs
from tests.ranks import Finished, server

OUTCOMES = frozenset((0, 2, 3, 4, 5, 6, 7, 8, 75, 130))  # docs/exit-codes.md
GRACE_SECONDS = 60.0  # for processes that are about to end
SHARED_MEMORY = Path("/dev/shm")
PR_SET_CHILD_SUBREAPER = 36
CACHE_OF_TORCH = "torchinductor_"  # and the user's name: made by an import, kept for later ones


@dataclass(frozen=True)
class Shape:
    """A tiny pretraining run: what it is started with."""

    overrides: tuple[str, ...] = ()
    world_size: int = 2


def uninterrupted(shape: Shape, prepared: Path, factory: pytest.TempPathFactory) -> Path:
    """The workplace of the finished run of a shape; only to be read.

    `prepared` is the folder of the fixture of that name, `factory` that of pytest.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    key = hashlib.sha256(json.dumps([shape.overrides, shape.world_size]).encode()).hexdigest()
    folder = shared / f"uninterrupted-{key[:16]}"
    with (shared / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_finished(folder):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(prepared, folder)
            runs.finished(folder, shape.world_size, *shape.overrides)
    return folder


def is_finished(folder: Path) -> bool:
    return (runs.stage(folder) / stages.MANIFEST).is_file()


def same(ours: Path, theirs: Path) -> None:
    """Fail unless two workplaces hold the same result: ledgers byte for byte, no step and no sample
    lost or repeated, the same weights in the export and the same steps in `checkpoints`."""
    runs.assert_same(ours, theirs)
    for name, lines in runs.ledgers(ours).items():
        written = [json.loads(line)["step"] for line in lines]
        assert written == list(range(1, len(lines) + 1)), f"steps of {name}: {written}"
    seen = [digest for _, step in runs.hashes(ours) for digest in step]
    assert len(set(seen)) == len(seen), "a micro batch was trained on twice"
    assert saved_steps(ours) == saved_steps(theirs)


def saved_steps(folder: Path) -> list[str]:
    """The names in the folder of checkpoints: also what should not be there."""
    return sorted(path.name for path in (runs.stage(folder) / "checkpoints").iterdir())


def one_cause(done: Finished) -> str:
    """The one line that says why a run ended, the same on every rank that could say one; fails for
    tracebacks and for none or several."""
    assert "Traceback" not in done.text, done.text
    lines = {line for line in done.text.splitlines() if line.startswith("textmill: ")}
    assert len(lines) == 1, done.text
    return lines.pop()


def documented(code: int) -> bool:
    """True for an exit code of docs/exit-codes.md."""
    return code in OUTCOMES


@dataclass(frozen=True)
class Traces:
    """What this test process and its descendants hold at one moment."""

    processes: dict[int, str] = field(default_factory=dict)  # pid -> command line
    ports: frozenset[tuple[str, int]] = frozenset()  # listened on
    shared_memory: frozenset[str] = frozenset()  # of all processes of the machine
    temporary: frozenset[str] = frozenset()  # in the folder for temporary files

    @classmethod
    def now(cls) -> "Traces":
        """Look; the server of ranks is there from the first look on."""
        server()
        me = psutil.Process()
        processes, ports = {}, set[tuple[str, int]]()
        for process in (me, *me.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue  # ended: its parent only has not asked how
                processes[process.pid] = " ".join(process.cmdline())
                for found in process.net_connections():
                    if found.status == psutil.CONN_LISTEN:
                        ports.add((found.laddr.ip, found.laddr.port))
        return cls(
            processes,
            frozenset(ports),
            frozenset(path.name for path in SHARED_MEMORY.iterdir()),
            frozenset(
                path.name
                for path in Path(tempfile.gettempdir()).iterdir()
                if not path.name.startswith(CACHE_OF_TORCH)
            ),
        )


def nothing_left(before: Traces, workplace: Path | None = None) -> None:
    """Fail if a process, a port, shared memory or a temporary file is there that was not before.

    Processes that are ending get a minute. A workplace is looked through for temporary files and
    locks; it must be that of a run that has finished. Call it inside `kept_in_view`.
    """
    ends = time.monotonic() + GRACE_SECONDS
    while left := what_is_left(before):
        assert time.monotonic() < ends, f"left behind: {left}"
        time.sleep(0.1)
    if workplace is not None:
        files = [path for path in (workplace / "run").rglob("*") if is_temporary(path)]
        assert not files, f"left behind in the run: {files}"


def is_temporary(path: Path) -> bool:
    return path.name.endswith(".tmp") or path.parent.name == "locks"


def what_is_left(before: Traces) -> dict[str, list[str]]:
    now = Traces.now()
    new = {
        "processes": [
            f"{pid}: {line}" for pid, line in now.processes.items() if pid not in before.processes
        ],
        "ports": [f"{host}:{port}" for host, port in sorted(now.ports - before.ports)],
        "shared memory": [
            name for name in now.shared_memory - before.shared_memory if is_ownerless(name)
        ],
        "temporary files": sorted(now.temporary - before.temporary),
    }
    return {kind: found for kind, found in new.items() if found}


def is_ownerless(name: str) -> bool:
    """True if a file of shared memory is there and no process has it mapped: others on this machine
    have their own, in use."""
    path = str(SHARED_MEMORY / name)
    for process in psutil.process_iter():
        with suppress(OSError):
            if path in Path(f"/proc/{process.pid}/maps").read_text():
                return False
    return Path(path).exists()


@contextmanager
def kept_in_view(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """What there is before a fault. Until the end of the block, processes whose parent dies become
    children of this one, where `nothing_left` sees them, and temporary files go to `folder`."""
    folder.mkdir(exist_ok=True)
    server()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    others = {child.pid for child in psutil.Process().children()}
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield Traces.now()
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess, ChildProcessError):
                if child.pid not in others and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)  # one that has become ours
