"""`python faulty_run.py FAULTS RECIPE ...`: pretraining whose last rank computes wrong gradients.

FAULTS is JSON: the number of a data step -> what the gradients of the last rank are multiplied by
there (NaN for one that is not finite). Data, losses and the other ranks are as they should be, so
that only what all ranks agree on can keep them together.
"""

import json
import os
import runpy
import sys
from collections.abc import Mapping
from functools import wraps
from typing import Any

from pretrain.batches import MicroBatch, MixtureBatches
from runtime.engine import Engine

FAULTS = {int(step): float(factor) for step, factor in json.loads(sys.argv.pop(1)).items()}
IS_LAST_RANK = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
marked: list[tuple[Mapping[str, Any], float]] = []  # inputs, and the factor of their gradients
batches_of, accumulate_of = MixtureBatches.micro_batches, Engine.accumulate


@wraps(batches_of)
def micro_batches(self: MixtureBatches, step: int) -> list[MicroBatch]:
    found = batches_of(self, step)
    if IS_LAST_RANK and step in FAULTS:
        marked.append((found[0].inputs, FAULTS[step]))
    return found


@wraps(accumulate_of)
def accumulate(self: Engine, inputs: Mapping[str, Any], num_targets: float) -> Any:
    factor = next((factor for marked_inputs, factor in marked if marked_inputs is inputs), 1.0)
    return accumulate_of(self, inputs, num_targets / factor)


MixtureBatches.micro_batches = micro_batches  # type: ignore[method-assign]
Engine.accumulate = accumulate  # type: ignore[method-assign]
runpy.run_module("pretrain", run_name="__main__", alter_sys=True)
