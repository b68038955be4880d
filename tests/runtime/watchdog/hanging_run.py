"""`python hanging_run.py FAULT RECIPE ...`: pretraining in which a fault happens on one rank.

FAULT is JSON: [rank, data step, name]. `stop` stops the process, `sleep` hangs where data are
waited for, `slow_save` makes the first checkpoint take long, a file at a time, `slow_evaluation`
the first evaluations, a micro batch at a time.
"""

import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from pretrain.batches import MixtureBatches
from runtime import checkpoint
from runtime.engine import Engine

RANK, STEP, NAME = json.loads(sys.argv.pop(1))
IS_FAULTY = int(os.environ["RANK"]) == RANK
STOPS: dict[str, Callable[[], None]] = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(3600),
}


def before(owner: Any, name: str, happens: Callable[..., None]) -> None:
    """Have something happen before a function does its work."""
    found = getattr(owner, name)

    @wraps(found)
    def changed(*args: Any, **kwargs: Any) -> Any:
        happens(*args, **kwargs)
        return found(*args, **kwargs)

    setattr(owner, name, changed)


def at_step(batches: MixtureBatches, step: int) -> None:
    if step == STEP:
        STOPS[NAME]()


def dawdle(*ignored: object) -> None:
    """Idle for 1.5 s, four times."""
    dawdled.append(None)
    if len(dawdled) <= 4:
        time.sleep(1.5)


dawdled: list[None] = []
if IS_FAULTY and NAME in STOPS:
    before(MixtureBatches, "micro_batches", at_step)
if IS_FAULTY and NAME == "slow_save":
    before(checkpoint, "sealed", dawdle)
if IS_FAULTY and NAME == "slow_evaluation":
    before(Engine, "evaluate", dawdle)
runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
