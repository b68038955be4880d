"""The ledger of a rank: what every step was computed from and gave, exactly.

STUB: replaced by its owner, names stay. One file a rank, `ledger/rank-00000.jsonl` in the run's
folder; a resume cuts what it will write again.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pretrain.batches import MicroBatch


class Ledger:
    """The writer of one rank's ledger."""

    def __init__(self, folder: Path, start_step: int, rank: int) -> None: ...

    def write(
        self,
        step: int,
        loss: float,
        gradient_norm: float,
        learning_rate: float,
        micro_batches: Sequence[MicroBatch],
        refused: str | None,
    ) -> None:
        """Record step `step` (from 1)."""

    def flush(self) -> None:
        """Make all that was written survive a power loss; called at checkpoints."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
