"""The ledger of a run: what every step was computed from and what it gave, exactly.

One file a rank, `ledger/rank-00000.jsonl` in the folder of the stage (of each task in fine-tuning),
and one line a step:

    {"step": 7,                       from 1, as in metrics.jsonl
     "data_step": 6,                  the data it took, from 0: step - 1, more after a rollback
     "loss": "0x1.85c2p+2",           over the targets of all ranks    } float.hex(): every bit;
     "gradient_norm": "0x1.1p+0",     before clipping                  } `float.fromhex` reads them,
     "learning_rate": "0x1.8p-9",     of this update                   } "nan" and "inf" too
     "micro_batches": ["9f86d0..."],  SHA-256 of each one's inputs as they enter the model
     "refused": "loss nan, ..."}      only if the update was not applied

A resume cuts what it will write again, so that no step is ever in a file twice. Two runs of a
recipe on the same number of ranks have the same files, byte for byte, whatever interrupted them. On
another number of ranks, with the same micro batch size, each step has the same hashes, shared out
differently; losses then differ by rounding.

Hashing 4,096 tokens takes 80 microseconds. A thread does it while the next step is computed: an
accelerator that trains on 400,000 tokens a second would else wait for almost 1 % of its time.
"""

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from pretrain.micro_batch import MicroBatch
from runtime import processes, provenance
from runtime.tracking import cut_from

FOLDER = "ledger"
MOST_WAITING = 4  # steps whose inputs are kept for the thread
NAME = re.compile(r"rank-(\d{5,})\.jsonl")


class Ledger:
    """The writer of one rank's ledger."""

    def __init__(self, folder: Path, start_step: int, rank: int) -> None:
        """Open the file of this rank; `start_step` is the number of steps that are done."""
        ledgers = folder / FOLDER
        ledgers.mkdir(parents=True, exist_ok=True)
        path = ledgers / f"rank-{rank:05d}.jsonl"
        for leftover in ledgers.glob(f".{path.name}.*.tmp"):  # of a start killed while it cut
            leftover.unlink()
        cut_from(path, start_step + 1)
        if rank == 0:  # files of ranks that a start with more of them had
            for other, number in files(ledgers):
                if number >= processes.world_size():
                    cut_from(other, start_step + 1)
        self.path = path
        self.fault: OSError | None = None  # why a line is missing
        self.lines = path.open("a", encoding="utf-8")
        self.thread = ThreadPoolExecutor(1, "ledger")  # one: lines stay in the order of the steps
        self.waiting: deque[Future[None]] = deque()

    def write(
        self,
        step: int,
        loss: float,
        gradient_norm: float,
        learning_rate: float,
        micro_batches: Sequence[MicroBatch],
        refused: str | None,
        data_step: int,
    ) -> None:
        """Record a step. The tensors of its inputs must not be changed from now on.

        A write that fails is kept in `fault`, for the ranks to agree on.
        """
        record: dict[str, Any] = {
            "step": step,
            "data_step": data_step,
            "loss": float(loss).hex(),
            "gradient_norm": float(gradient_norm).hex(),
            "learning_rate": float(learning_rate).hex(),
            "micro_batches": [],
        }
        if refused is not None:
            record["refused"] = refused
        inputs = [micro_batch.inputs for micro_batch in micro_batches]
        if self.fault is None:  # else the line would follow a torn one
            self.waiting.append(self.thread.submit(self.append, record, inputs))
        self.wait(MOST_WAITING)

    def append(self, record: dict[str, Any], inputs: Sequence[Mapping[str, Any]]) -> None:
        """Complete a line and write it; runs in the thread."""
        record["micro_batches"] = [digest(found) for found in inputs]
        self.lines.write(json.dumps(record) + "\n")

    def wait(self, most: int) -> None:
        """Wait until at most so many lines are still to be written."""
        while len(self.waiting) > most:
            try:
                self.waiting.popleft().result()
            except OSError as error:
                self.fault = self.fault or provenance.failure(error, self.path)

    def flush(self) -> None:
        """Make all that was written survive a power loss; called at checkpoints. Raises OSError if
        a line is missing."""
        self.wait(0)
        if self.fault is not None:
            raise self.fault
        try:
            self.lines.flush()
            os.fsync(self.lines.fileno())
        except OSError as error:
            raise provenance.failure(error, self.path) from None

    def close(self) -> None:
        """Close; safe to call twice. What must not be lost was flushed before."""
        if not self.lines.closed:
            self.wait(0)
            self.thread.shutdown()
            with suppress(OSError):
                self.lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def digest(inputs: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of every tensor of a micro batch: names, types, shapes and contents, in the
    order of the names. What is no tensor follows from those (segments from positions)."""
    found = hashlib.sha256()
    for name in sorted(inputs):
        tensor = inputs[name]
        if isinstance(tensor, torch.Tensor):
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            # A copy: the stride of a single value may be 0, which cannot be viewed as bytes.
            whole = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            content = whole.flatten().view(torch.uint8)
            found.update(content.numpy().data)
    return found.hexdigest()


def files(ledgers: Path) -> list[tuple[Path, int]]:
    """The files of a ledger folder with the rank of each, in the order of the ranks."""
    found = ((path, NAME.fullmatch(path.name)) for path in ledgers.iterdir())
    ranked = [(path, int(match.group(1))) for path, match in found if match]
    return sorted(ranked, key=lambda entry: entry[1])


def of_step(folder: Path, step: int) -> dict[int, dict[str, Any]]:
    """What each rank that did a step wrote of it, by rank; empty if none did."""
    found = {}
    ledgers = folder / FOLDER
    for path, rank in files(ledgers) if ledgers.is_dir() else []:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(f'{{"step": {step},') and line.endswith("\n"):
                    found[rank] = json.loads(line)
    return found
