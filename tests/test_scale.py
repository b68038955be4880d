"""The benchmarks of scale, on small numbers: they run, and what they assert holds."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Imports a benchmark."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_a_step_is_the_same_in_whatever_order_steps_are_asked_for(
    load: Load, tmp_path: Path
) -> None:
    samples = load("scale_samples")
    num_samples, tokens = 50_000, 50_000 * 512
    samples.write(tmp_path, num_samples)
    assert samples.opening(tmp_path)["wall_s"] > 0
    last = tokens // (512 * samples.MICRO_BATCH * samples.WORLD_SIZE) - 1
    alone = samples.one_step(tmp_path, tokens, last, "last step")
    batches = samples.batches_of(tmp_path, tokens, 0, samples.WORLD_SIZE)
    assert batches.total_steps == last + 2  # rounded up to a whole step
    found = [batches.micro_batches(step) for step in range(last + 1)][-1]
    assert samples.digest(found[0]) == alone["sha256"]
    many = samples.many_steps(tmp_path, tokens, samples.WORLD_SIZE)
    assert many["mapped_files"] > 0
    assert many["block_mb_a_step"] > 0


def test_every_planted_copy_is_found(load: Load, tmp_path: Path) -> None:
    near = load("scale_near_duplicates")
    *_, joined, compared = near.measure(tmp_path, count=20_000, unit_documents=700)
    assert joined["joined"] == 2_000
    assert joined["pairs"] == near.SHARED_BANDS * 2_000
    assert compared["rows"] == 20_000


def test_units(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = load("scale_units")
    monkeypatch.setattr(units, "JOB_SECONDS", 0.01)
    rows = units.measure(tmp_path, units.Sizes(60, 10_000, 6, 5_000))
    found = {row["what"]: row for row in rows}
    assert [found[what]["run"] for what in ("write journals", "resume", "look at journals")] == [
        60, 6, 0
    ]  # fmt: skip
    assert found["share jobs"]["in_vain"] < 60


def test_the_files_of_many_ranks(load: Load, tmp_path: Path) -> None:
    checkpoint = load("scale_checkpoint")
    rows = {row["what"]: row for row in checkpoint.measure(tmp_path, 8)}
    assert rows["list"]["files"] == 24
    assert rows["prune"]["files_removed"] == 2 * 25
    ledger, metrics = checkpoint.logs(8)
    assert ledger["bytes"] == 8 * ledger["bytes_a_rank"] > 8 * metrics["bytes"]


def test_hosts(load: Load, tmp_path: Path) -> None:
    _, rendered, agents = load("scale_hosts").measure(tmp_path, 20)
    assert rendered["all_order_bytes"] > 20 * 1_000
    assert agents["open_files"] > 3 * 20


def test_a_pause_of_most_ranks_blames_nobody(load: Load) -> None:
    found = load("scale_watchdog").measure(num_ranks=20, seconds=1.0)
    assert found["silent_at_once"] == 15
    assert found["open_files"] >= 19
