"""A run saved by two ranks goes on with one, and with four: every sample is trained on once, in the
same step as without the change, and losses stay close."""

import shutil
from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.oracle import Shape
from tests.pretrain import runs
from tests.pretrain.conftest import prepared

__all__ = ["prepared"]  # a fixture
pytestmark = pytest.mark.distributed
# Dropout masks differ by rank; fp32 sums differ by rounding alone.
SHAPE = Shape(
    (
        'engine.precision="fp32"', "model.dropout=0.0", "train.total_tokens=6144",
        "checkpoint.interval_steps=2", "train.evaluate_every_steps=6",
        "train.validation_samples=1",
    )
)  # fmt: skip


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.soak), 4])
def test_other_numbers_of_ranks_lose_and_repeat_no_sample(
    world_size: int,
    prepared: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = oracle.uninterrupted(SHAPE, prepared, tmp_path_factory)
    folder = shutil.copytree(prepared, tmp_path / "workplace")
    with oracle.kept_in_view(tmp_path / "temporary", monkeypatch) as before:
        stopped = runs.start(folder, 2, *SHAPE.overrides, when_running=runs.stop_after(folder, 1))
        assert stopped.exit_codes == [75, 75], stopped.text
        assert 0 < runs.records(folder)[-1]["step"] < 6
        done = runs.finished(folder, world_size, *SHAPE.overrides)
        assert f"was saved by 2 ranks and is converted for {world_size}" in done.text
        oracle.nothing_left(before, folder)
    assert runs.hashes(folder) == runs.hashes(whole)
    seen = [digest for _, step in runs.hashes(folder) for digest in step]
    assert len(set(seen)) == len(seen) == 6 * 4  # 4 micro batches a step
    for ours, theirs in zip(runs.records(folder), runs.records(whole), strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]
        expected = float.fromhex(theirs["loss"])
        assert float.fromhex(ours["loss"]) == pytest.approx(expected, rel=1e-6)
