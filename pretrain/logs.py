"""The logs a run cannot do without, and what the ranks do together when one cannot be written.

The ledger of each rank and metrics.jsonl of rank 0 must have every step: they are how a run is
compared with another and what its report is made from. A line that cannot be written ends the run
on all ranks at the next step, without another checkpoint: the run continues where all lines are on
disk, and writes the same lines again.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pretrain.ledger import Ledger
from runtime import checkpoint, processes
from runtime.errors import DiskError
from runtime.tracking import Tracker


@dataclass(frozen=True)
class Logs:
    """What one rank writes beside checkpoints."""

    folder: Path  # of the stage
    tracker: Tracker
    ledger: Ledger

    def have_failed(self) -> bool:
        """True if a line is missing; the ranks must agree before acting on it."""
        return self.tracker.fault is not None or self.ledger.fault is not None

    def flush(self) -> None:
        """Make all lines survive a power loss. All ranks call it; raises DiskError on all of them
        if one of them lacks a line."""
        together(self.flush_own, self.folder)

    def flush_own(self) -> None:
        """The lines of this rank."""
        self.tracker.flush()
        self.ledger.flush()


@contextmanager
def opened(
    folder: Path, start_step: int, total_steps: int, repeats_step: bool = False
) -> Iterator[Logs]:
    """The logs from a step on; what an interrupted run wrote later is cut. The metrics of the step
    itself are written again if it is repeated. All ranks enter and leave the block; raises
    DiskError on all of them if one cannot open its files."""
    rank = processes.rank()
    with ExitStack() as stack:
        found: list[Logs] = []

        def open_own() -> None:
            tracker = stack.enter_context(
                Tracker(folder, start_step, total_steps, rank == 0, repeats_step)
            )
            ledger = stack.enter_context(Ledger(folder, start_step, rank))
            found.append(Logs(folder, tracker, ledger))

        together(open_own, folder)
        yield found[0]


def together(work: Callable[[], None], folder: Path) -> None:
    """Have every rank do what may fail; raises DiskError on all of them if it does on any."""
    try:
        checkpoint.together(work)
    except DiskError as error:
        told = str(error).removesuffix(checkpoint.REMEDY)
        raise DiskError(
            f"the logs of this run cannot be written ({told}); "
            f"{checkpoint.last_of(folder / checkpoint.FOLDER)}; free space in {folder}, or let it "
            "be written to, and run the same command again"
        ) from None
