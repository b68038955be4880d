"""`python failing_reader.py ERROR STEP RECIPE ...`: pretraining whose last rank cannot make the
batch of a data step (from 0).

ERROR is "memory" (none is left), "input_output" (the disk answers with EIO) or "page" (a page of a
mapped file is gone: SIGBUS).
"""

import errno
import mmap
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from typing import NoReturn

from pretrain.batches import MicroBatch, MixtureBatches

ERROR, STEP = sys.argv.pop(1), int(sys.argv.pop(1))
IS_LAST_RANK = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
batches_of = MixtureBatches.micro_batches


def memory() -> NoReturn:
    raise MemoryError


def input_output() -> NoReturn:
    raise OSError(errno.EIO, os.strerror(errno.EIO), "tokens.npy")


def page() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        bytes(mapped)


ERRORS: dict[str, Callable[[], None]] = {
    "memory": memory,
    "input_output": input_output,
    "page": page,
}


@wraps(batches_of)
def micro_batches(self: MixtureBatches, step: int) -> list[MicroBatch]:
    if IS_LAST_RANK and step == STEP:
        ERRORS[ERROR]()
    return batches_of(self, step)


MixtureBatches.micro_batches = micro_batches  # type: ignore[method-assign]
runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
