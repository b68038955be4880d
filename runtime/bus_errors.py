"""Say which file it was when a page of a mapped file cannot be read.

Shards, safetensors and shared memory are mapped. If such a file is cut short, or the disk or the
network behind it fails, the kernel has nobody to return an error to and sends SIGBUS, which ends a
process without a word. A handler of `signal.signal` cannot help: it runs after the instruction has
been tried again, which raises the same signal for ever. This one is called by the kernel, looks up
the address in /proc/self/maps, prints the one line every error has, and ends the process.

A page is touched by numpy or torch in the middle of a copy, never inside malloc or the interpreter,
so Python may run here. Linux with 64-bit addresses only; elsewhere nothing is installed.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from runtime.errors import DataError, DiskError, TextmillError, report

SA_SIGINFO = 4  # sigaction(2)
ADDRESS_OFFSET = 16  # of si_addr in siginfo_t
SHARED_MEMORY = "/dev/shm/"
told: list[Callable[[TextmillError], None]] = []  # beside stderr, before the process ends
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Action(ctypes.Structure):
    """struct sigaction of glibc and musl on 64-bit Linux."""

    _fields_ = (
        ("handler", HANDLER),
        ("mask", ctypes.c_char * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def explain() -> None:
    """From now on SIGBUS ends this process with a message and an exit code; safe to call twice."""
    if sys.platform == "linux" and sys.maxsize > 1 << 32:
        action = Action(handler=CALLED, flags=SA_SIGINFO)
        ctypes.CDLL(None, use_errno=True).sigaction(signal.SIGBUS, ctypes.byref(action), None)


def end(number: int, information: int, context: int) -> None:
    """The handler: name the file and end the process."""
    code = 128 + number
    try:
        address = ctypes.c_uint64.from_address(information + ADDRESS_OFFSET).value
        fault = fault_of(mapped_at(address))
        code = report(fault)
        for tell in told:
            tell(fault)
    finally:
        os._exit(code)  # to return would be to touch the page again


def mapped_at(address: int) -> str | None:
    """The file mapped at an address of this process; None if there is none."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            # begin-end permissions offset device inode path
            fields = line.rstrip("\n").split(maxsplit=5)
            begin, end = (int(part, 16) for part in fields[0].split("-"))
            if begin <= address < end:
                return fields[5] if len(fields) > 5 else None
    return None


def fault_of(path: str | None) -> TextmillError:
    """What to tell the user."""
    if path is None or path.startswith(SHARED_MEMORY):
        return DiskError(
            f"no page of {path or 'shared memory'} could be had (SIGBUS): /dev/shm is full; make "
            "it larger, then run the same command again"
        )
    return DataError(
        f"{path} could not be read (SIGBUS): it was cut short, or the disk or network behind it "
        "failed; see the system's log and restore the file (`python -m data_prep verify` says "
        "whether shards are as they were written), then run the same command again"
    )


CALLED = HANDLER(end)  # kept for as long as the process lives: the kernel has its address
