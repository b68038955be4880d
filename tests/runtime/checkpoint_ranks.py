"""Run by test_checkpoint.py on each rank: a write that fails on rank 1 only, in the middle of a
save of real shards."""

import resource
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from runtime import checkpoint, command, config, errors, processes
from runtime.checkpoint import Position
from runtime.engine import Batch, Engine

IDENTITY = {"data": "d"}
TABLE = config.Checkpoint(interval_steps=1, keep_last=5)


class Squares(nn.Module):
    """A layer whose outputs are to be zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(rows).square().sum(),)


def work(folder: Path) -> None:
    processes.start(60)
    table = config.Engine(precision="fp32")
    engine = Engine(Squares, table, config.Optimizer(learning_rate=1e-2), Batch(2, 1), seed=5)
    for step in (1, 2):
        engine.begin_step(1)
        engine.accumulate({"rows": torch.ones(1, 64)}, 2)
        engine.step(1e-2)
        if step == 2 and processes.rank() == 1:
            # A real limit: the kernel refuses to let a file of this process grow beyond it.
            resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
        try:
            checkpoint.save(engine, folder, Position(step=step), IDENTITY, TABLE)
        except errors.DiskError as error:
            assert checkpoint.load_newest(engine, folder, IDENTITY) == Position(step=1)
            raise errors.DiskError(str(error).replace("intact", "intact and was loaded")) from None


if __name__ == "__main__":
    command.leave(lambda: errors.run_command(lambda: work(Path(sys.argv[1]))))
