"""`python dying_run.py DEATH RECIPE ...`: pretraining in which a rank is killed at a named instant.

DEATH is JSON: {"rank": which, null for every one, "at": a name of INSTANTS, "entry": at which of
them, from 1, "delay_seconds": how long after it the signal is sent, by a thread of the process, 0
for at once}. Nothing is flushed, closed or told: it is SIGKILL.
"""

import json
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from pretrain import run as pretraining
from runtime import checkpoint
from runtime.watchdog.activity import Activity

PARTS = ("data_wait", "forward", "backward", "communication", "optimizer", "evaluation", "hooks")
# What the watchdog does not name: begin of a start, of a save and of its parts, end of a save.
CALLS: dict[str, tuple[Any, str]] = {
    "start": (pretraining, "run"),
    "before a save": (checkpoint, "save"),
    "writing a save": (checkpoint, "write_state"),
    "sealing a save": (checkpoint, "seal_files"),
}
AFTER = {"after a save": (checkpoint, "save"), "after training": (pretraining, "train")}
INSTANTS = (*PARTS, *CALLS, *AFTER)


def die(delay_seconds: float) -> None:
    """End this process after so many seconds, in which it goes on."""
    if delay_seconds == 0:
        os.kill(os.getpid(), signal.SIGKILL)

    def later() -> None:
        time.sleep(delay_seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=later, daemon=True).start()


def around(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Have something happen before and after a function does its work."""
    found = getattr(owner, name)

    @wraps(found)
    def changed(*args: Any, **kwargs: Any) -> Any:
        before()
        result = found(*args, **kwargs)
        after()
        return result

    setattr(owner, name, changed)


def arm(at: str, entry: int, delay_seconds: float) -> None:
    """Die at the `entry`-th time that this process comes to the instant."""
    entries = 0

    def count() -> None:
        nonlocal entries
        entries += 1
        if entries == entry:
            die(delay_seconds)

    if at in PARTS:
        inside = Activity.inside

        @wraps(inside)
        def counted(self: Activity, part: str) -> Any:
            if part == at:
                count()
            return inside(self, part)

        Activity.inside = counted  # type: ignore[method-assign]
    elif at in CALLS:
        around(*CALLS[at], count, lambda: None)
    else:
        around(*AFTER[at], lambda: None, count)


if __name__ == "__main__":
    death = json.loads(sys.argv.pop(1))
    if death.pop("rank") in (None, int(os.environ["RANK"])):
        arm(**death)
    runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
