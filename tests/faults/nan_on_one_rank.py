"""`python nan_on_one_rank.py WHAT STEPS RECIPE ...`: a value that is no number on the last rank.

WHAT is "loss" (the loss the rank reports, its gradients being sound) or "gradient" (its gradients,
the loss being sound); STEPS is JSON: the data steps, from 0, at which it happens. All other ranks
compute as they should, and nothing is said to them.
"""

import json
import os
import runpy
import sys
from functools import wraps
from typing import Any

import torch

from pretrain.batches import MicroBatch, MixtureBatches
from runtime.engine import Engine

WHAT, STEPS = sys.argv.pop(1), set(json.loads(sys.argv.pop(1)))
IS_LAST_RANK = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
marked: list[Any] = []  # inputs of the micro batches that go wrong
batches_of, accumulate_of = MixtureBatches.micro_batches, Engine.accumulate


@wraps(batches_of)
def micro_batches(self: MixtureBatches, step: int) -> list[MicroBatch]:
    found = batches_of(self, step)
    if IS_LAST_RANK and step in STEPS:
        marked.append(found[-1].inputs)
    return found


@wraps(accumulate_of)
def accumulate(self: Engine, inputs: Any, num_targets: float) -> torch.Tensor:
    if not any(inputs is wrong for wrong in marked):
        return accumulate_of(self, inputs, num_targets)
    if WHAT == "loss":
        return accumulate_of(self, inputs, num_targets) * torch.nan
    return accumulate_of(self, inputs, num_targets / torch.nan)


MixtureBatches.micro_batches = micro_batches  # type: ignore[method-assign]
Engine.accumulate = accumulate  # type: ignore[method-assign]
runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
