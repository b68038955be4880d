"""Death at every system call by which a save changes files, for ZeRO 1, 2 and 3: what is left is
never taken for a checkpoint it is not, and the run goes on to the same result.

Real ranks, of which one is killed by the kernel's own count of its calls (file_operations.py):
writes are torn in the middle, all else has not happened yet. The next start has to live with what
that left, and is killed at the next call.
"""

import json
import logging
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runtime import retention, seals
from tests.faults import file_operations, oracle
from tests.faults.oracle import Shape
from tests.pretrain import runs
from tests.pretrain.conftest import prepared
from tests.ranks import Finished, run_ranks

__all__ = ["prepared"]  # a fixture
pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not file_operations.is_supported(), reason="calls of this machine unknown"),
]
PROGRAM = Path(__file__).with_name("dying_in_save.py")
# The save of step 4 has one before it, which it deletes at its end.
STEP, INTERVAL = 4, 2
STAGES = {1: "zero1", 2: "zero2", 3: "cpu"}  # the file of ds_configs for each
FEWEST = (50, 19)  # calls that each rank makes in a save, under any stage
log = logging.getLogger(__name__)


def shape(zero_stage: int) -> Shape:
    """Six steps, saves at 2, 4 and 6, of which the last is kept."""
    return Shape(
        (
            f'engine.ds_config="{STAGES[zero_stage]}"', "train.total_tokens=6144",
            "train.evaluate_every_steps=6", "train.validation_samples=1",
            f"checkpoint.interval_steps={INTERVAL}", "checkpoint.keep_last=1",
            "checkpoint.keep_best=false",
        )
    )  # fmt: skip


def dying(folder: Path, zero_stage: int, rank: int | None, operation: int) -> Finished:
    death = {"rank": rank, "step": STEP, "operation": operation, "record": str(folder)}
    overrides = shape(zero_stage).overrides
    arguments: list[str | Path] = [PROGRAM, json.dumps(death), "recipe.toml", *overrides]
    return run_ranks(arguments, 2, folder, timeout_seconds=120)


class Deaths:
    """A run of one shape that is killed again and again, and compared when it could finish."""

    def __init__(
        self, zero_stage: int, prepared: Path, whole: Path, folder: Path, before: oracle.Traces
    ) -> None:
        self.zero_stage, self.prepared, self.whole = zero_stage, prepared, whole
        self.folder, self.before = folder, before
        self.num_finished = 0

    def die(self, rank: int, operation: int) -> None:
        """Be killed on this rank at this call, and check what is left."""
        if not self.folder.exists():
            shutil.copytree(self.prepared, self.folder)
        told = f"ZeRO {self.zero_stage}, rank {rank}, call {operation}"
        done = dying(self.folder, self.zero_stage, rank, operation)
        assert done.exit_codes[rank] == -signal.SIGKILL, f"{told}: {done.text}"
        assert done.exit_codes[1 - rank] == 5, f"{told}: {done.text}"
        assert f"rank {rank} on " in oracle.one_cause(done), told
        checkpoints = runs.stage(self.folder) / "checkpoints"
        present = retention.steps(checkpoints)
        assert present in ([INTERVAL], [INTERVAL, STEP], [STEP]), f"{told}: {present}"
        for step in present:
            fault = seals.first_fault(retention.path_of(checkpoints, step))
            assert fault is None, f"{told}: the checkpoint of step {step}: {fault}"
        if STEP in present:  # this save is done: the next death needs another run
            self.finish()

    def finish(self) -> None:
        """Go on from what is left, to the end."""
        if self.folder.exists():
            runs.finished(self.folder, 2, *shape(self.zero_stage).overrides)
            oracle.same(self.folder, self.whole)
            oracle.nothing_left(self.before, self.folder)
            self.num_finished += 1
            shutil.rmtree(self.folder)


def die_at(
    zero_stage: int,
    calls: Sequence[tuple[int, int]],
    prepared: Path,
    tmp_path: Path,
    factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Be killed at each of the calls, given by rank and number."""
    whole = oracle.uninterrupted(shape(zero_stage), prepared, factory)
    with oracle.kept_in_view(tmp_path / "temporary", monkeypatch) as before:
        deaths = Deaths(zero_stage, prepared, whole, tmp_path / "workplace", before)
        for rank, operation in calls:
            deaths.die(rank, operation)
        deaths.finish()
        oracle.nothing_left(before)
    log.info(
        "ZeRO %d: %d deaths, %d runs finished and the same",
        zero_stage, len(calls), deaths.num_finished,
    )  # fmt: skip


@pytest.mark.parametrize("zero_stage", STAGES)
def test_death_at_one_call_of_a_save(
    zero_stage: int,
    prepared: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(f"one call of a save {zero_stage}")
    rank = rng.randrange(2)
    calls = [(rank, rng.randint(1, FEWEST[rank]))]
    die_at(zero_stage, calls, prepared, tmp_path, tmp_path_factory, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("zero_stage", STAGES)
def test_death_at_every_call_of_a_save(
    zero_stage: int,
    rank: int,
    record_property: Callable[[str, object], None],
    prepared: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listing = tmp_path / "listing"
    shutil.copytree(prepared, listing)
    done = dying(listing, zero_stage, rank, 0)
    assert done.exit_codes == [0, 0], done.text
    lines = (listing / f"rank-{rank}.jsonl").read_text().splitlines()
    names = {json.loads(line)[0] for line in lines}
    assert {
        "write",
        "writev",
        "fsync",
        "openat",
    } <= names  # torch's writer too, which is not Python
    assert rank == 1 or {"mkdir", "rename", "unlinkat"} <= names
    assert len(lines) >= FEWEST[rank]
    calls = [(rank, number + 1) for number in range(len(lines))]
    record_property("faults", len(calls))
    die_at(zero_stage, calls, prepared, tmp_path, tmp_path_factory, monkeypatch)
