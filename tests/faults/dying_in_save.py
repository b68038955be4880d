"""`python dying_in_save.py DEATH RECIPE ...`: pretraining that is killed inside one save.

DEATH is JSON: {"rank": which, null for every one, "step": whose checkpoint, "operation": at which
of the calls by which that rank changes files, from 1, 0 for none, "record": the folder that gets
the list of them, rank-N.jsonl}.
"""

import json
import os
import runpy
import sys
from functools import wraps
from pathlib import Path
from typing import Any

from pretrain import train
from tests.faults import file_operations

death = json.loads(sys.argv.pop(1))
RANK, RECORD = int(os.environ["RANK"]), Path(death["record"])
save_of = train.save


@wraps(save_of)
def save(position: Any, start: Any) -> None:
    if position.step != death["step"]:
        return save_of(position, start)
    record = RECORD / f"rank-{RANK}.jsonl"
    done = file_operations.watch(start.job.folder.resolve(), death["operation"], record)
    save_of(position, start)
    return done()


if death["rank"] in (None, RANK):
    train.save = save
runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
