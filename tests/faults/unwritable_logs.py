"""`python unwritable_logs.py WHAT RECIPE ...`: pretraining one of whose logs is on a full disk.

WHAT is "events" (TensorBoard's, from the start), "metrics" (metrics.jsonl of rank 0) or "ledger"
(that of rank 1), the last two from step 6 on.
"""

import os
import runpy
import sys
from functools import wraps
from pathlib import Path
from typing import Any

from pretrain.ledger import Ledger
from runtime import event_file
from runtime.tracking import Tracker

FULL = Path("/dev/full")
FROM_STEP = 6
WHAT = sys.argv.pop(1)
RANK = int(os.environ["RANK"])
log_of, write_of = Tracker.log, Ledger.write


def fill(lines: Any) -> None:
    """The disk behind an open file is full from now on."""
    lines.flush()
    os.dup2(os.open(FULL, os.O_WRONLY), lines.fileno())


@wraps(log_of)
def log(self: Tracker, step: int, *rest: Any, **more: Any) -> None:
    if WHAT == "metrics" and RANK == 0 and step == FROM_STEP:
        fill(self.lines)
    log_of(self, step, *rest, **more)


@wraps(write_of)
def write(self: Ledger, step: int, *rest: Any, **more: Any) -> None:
    if WHAT == "ledger" and RANK == 1 and step == FROM_STEP:
        self.wait(0)
        fill(self.lines)
        self.lines.reconfigure(write_through=True)  # a line at a time, as long ones are
    write_of(self, step, *rest, **more)


Tracker.log = log  # type: ignore[method-assign]
Ledger.write = write  # type: ignore[method-assign]
if WHAT == "events":
    event_file.next_event_file = lambda folder: FULL
runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
