"""Freed memory stays: seen in the page faults of a process that allocates again and again."""

import resource
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(9)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
size = 48 << 20
for turn in range(6):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=False
    )
    if done.returncode == 9:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_pages_are_faulted_in_once() -> None:
    pages = (48 << 20) // resource.getpagesize()
    assert faults("keep") < pages // 10
    assert faults("leave") > pages  # what is cured
