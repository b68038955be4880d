"""The system calls by which a thread changes files, counted by the kernel: death at any of them.

`watch(root, ...)` puts a seccomp filter on the calling thread: the calls of `CALLS` wait until a
small process of its own lets them go on (seccomp_unotify(2), Linux 5.5). That process counts those
that would change something below `root`, whoever makes them: Python, the C++ writer of torch, a
library. At the one told it kills the caller, which therefore has done all before it and nothing of
it, but for a write, half of which reaches the file. The filter stays until the process ends;
`done()` ends the counting.
"""

import ctypes
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

# Name: its number on x86_64 and on aarch64 (None: it has none), whether its file is given by name
# ("path") or open ("file"), and as which argument; before a second one comes a folder.
CALLS: dict[str, tuple[int | None, int | None, str, int]] = {
    "write": (1, 64, "file", 0),
    "pwrite64": (18, 68, "file", 0),
    "writev": (20, 66, "file", 0),
    "ftruncate": (77, 46, "file", 0),
    "fsync": (74, 82, "file", 0),
    "fdatasync": (75, 83, "file", 0),
    "open": (2, None, "path", 0),
    "openat": (257, 56, "path", 1),
    "rename": (82, None, "path", 0),
    "renameat": (264, 38, "path", 1),
    "renameat2": (316, 276, "path", 1),
    "link": (86, None, "path", 0),
    "linkat": (265, 37, "path", 1),
    "unlink": (87, None, "path", 0),
    "unlinkat": (263, 35, "path", 1),
    "mkdir": (83, None, "path", 0),
    "mkdirat": (258, 34, "path", 1),
    "rmdir": (84, None, "path", 0),
}
MACHINES = {"x86_64": 0, "aarch64": 1}
SECCOMP = {"x86_64": 317, "aarch64": 277}  # number of seccomp(2)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
AT_FDCWD = -100
PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG = 38, 1
SET_MODE_FILTER, NEW_LISTENER = 1, 8
NOTIFY, ALLOW = 0x7FC00000, 0x7FFF0000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
RECEIVE, SEND = 0xC0502100, 0xC0182101  # ioctl
NOTICE = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, number, architecture, place, arguments
PIECE = struct.Struct("=QQ")  # of a writev: address, length
GO_ON = 1
PATH_BYTES = 4096
END = "/dev/null"  # a write here ends the counting


@dataclass(frozen=True)
class Operation:
    """One call that changes files."""

    name: str
    path: str


class Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.POINTER(Instruction)))


def is_supported() -> bool:
    return platform.machine() in MACHINES


def numbers() -> dict[int, str]:
    """The calls of this machine by number."""
    which = MACHINES[platform.machine()]
    found = ((facts[which], name) for name, facts in CALLS.items())
    return {number: name for number, name in found if isinstance(number, int)}


def watch(root: Path, death: int, record: Path) -> Callable[[], None]:
    """Count from now on what this thread changes below `root`, and die at the call of that number,
    from 1 (0: at none). Writes each to `record`, as JSON lines. Returns `done`."""
    ours, theirs = socket.socketpair()
    caller = os.getpid()
    if os.fork() == 0:
        serve(theirs, caller, root, death, record)
    theirs.close()
    marker = os.open(END, os.O_WRONLY)
    socket.send_fds(ours, [b"."], [install()])
    ours.close()
    return lambda: os.close(marker) if os.write(marker, b".") else None


def install() -> int:
    """Put the filter on this thread; returns the file its notices come from."""
    code = [(LOAD_WORD, 0, 0, 0)]  # the number of the call
    wanted = list(numbers())
    for left, number in zip(range(len(wanted), 0, -1), wanted, strict=True):
        code.append((JUMP_IF_EQUAL, left, 0, number))
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOTIFY)]
    program = Program(len(code), (Instruction * len(code))(*(Instruction(*line) for line in code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    seccomp = SECCOMP[platform.machine()]
    listener: int = libc.syscall(seccomp, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "no seccomp filter can be set here")
    return listener


def serve(connection: socket.socket, caller: int, root: Path, death: int, record: Path) -> NoReturn:
    """Be the process that lets calls go on; ends with the caller."""
    with suppress(BaseException):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _, (listener,), _, _ = socket.recv_fds(connection, 1, 1)
        # Else the connections of the caller would stay open when it is gone.
        os.closerange(0, listener)
        os.closerange(listener + 1, os.sysconf("SC_OPEN_MAX"))
        with record.open("w") as lines:
            answer(listener, caller, root, death, lines)
    os.kill(caller, signal.SIGKILL)  # it would wait for ever
    os._exit(1)


def answer(listener: int, caller: int, root: Path, death: int, lines: TextIO) -> None:
    """Let calls go on until the one to die at."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    names, count, is_counting = numbers(), 0, True
    while True:
        if any(events & select.POLLHUP for _, events in poll.poll()):
            os._exit(0)
        notice = bytearray(NOTICE.size)
        try:
            fcntl.ioctl(listener, RECEIVE, notice)
        except (FileNotFoundError, InterruptedError):  # the caller is gone, or was interrupted
            continue
        notified, _, _, number, _, _, *arguments = NOTICE.unpack(notice)
        name = names[number]
        found = operation(caller, name, arguments) if is_counting else None
        if found is not None and found.path == END and name == "write":
            is_counting = False
        elif found is not None and Path(found.path).is_relative_to(root):
            count += 1
            lines.write(json.dumps([found.name, found.path]) + "\n")
            lines.flush()
            if count == death:
                if name in ("write", "writev"):
                    tear(caller, name, arguments)
                os.kill(caller, signal.SIGKILL)
                os._exit(0)
        with suppress(FileNotFoundError):
            fcntl.ioctl(listener, SEND, struct.pack("=QqiI", notified, 0, 0, GO_ON))


def operation(caller: int, name: str, arguments: list[int]) -> Operation | None:
    """What a call would change; None if it only reads."""
    *_, kind, place = CALLS[name]
    if name.startswith("open") and not arguments[place + 1] & WRITING:
        return None
    try:
        if kind == "file":
            path = os.readlink(f"/proc/{caller}/fd/{arguments[0]}")
        else:
            path = named(caller, arguments[place], arguments[0] if place else None)
    except OSError:  # what is no file, or no address: the call says so itself
        return None
    return Operation(name, path)


def named(caller: int, address: int, folder: int | None) -> str:
    """The path at an address of the caller, made absolute."""
    with open(f"/proc/{caller}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        # Not more than to the end of the page: the next one may not be there.
        text = memory.read(PATH_BYTES - address % PATH_BYTES)
        if b"\0" not in text:
            text += memory.read(PATH_BYTES)
    path = os.fsdecode(text.partition(b"\0")[0])
    number = None if folder is None else ctypes.c_int(folder).value
    place = "cwd" if number in (None, AT_FDCWD) else f"fd/{number}"
    return os.path.normpath(Path(os.readlink(f"/proc/{caller}/{place}"), path))


def tear(caller: int, name: str, arguments: list[int]) -> None:
    """Do the first half of a write, as a kernel may when the machine or the process dies."""
    number, address, length = arguments[:3]
    with open(f"/proc/{caller}/mem", "rb", buffering=0) as memory:

        def read(address: int, length: int) -> bytes:
            memory.seek(address)
            return memory.read(length)

        pieces = [(address, length)]
        if name == "writev":
            pieces = list(PIECE.iter_unpack(read(address, length * PIECE.size)))
        content = b"".join(read(*piece) for piece in pieces)
    facts = Path(f"/proc/{caller}/fdinfo/{number}").read_text().split()
    with open(f"/proc/{caller}/fd/{number}", "r+b", buffering=0) as file:
        file.seek(int(facts[1]))
        file.write(content[: len(content) // 2])
