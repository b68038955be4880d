"""kill -9 of one rank, of all, of the launcher, at any phase of a run: the others end with code 5
and name the rank, nothing is left, and the same command goes on to the same result, bit by bit.

Every death is drawn from a seed that its test is named by: phase, which of its entries, and how
long after it the signal comes. Deaths inside a save are in test_death_at_every_write.py.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults import oracle
from tests.faults.oracle import Shape
from tests.pretrain import runs
from tests.pretrain.conftest import prepared
from tests.ranks import ROOT, run_ranks

__all__ = ["prepared"]  # a fixture
pytestmark = pytest.mark.distributed
PROGRAM = Path(__file__).with_name("dying_run.py")
SHAPE = Shape(
    (
        "train.total_tokens=6144", "checkpoint.interval_steps=2", "train.evaluate_every_steps=3",
        "train.validation_samples=1",
    )
)  # fmt: skip
# Each instant with the most entries to draw from: as many as every rank has in the six steps.
ENTRIES = {
    "start": 1, "data_wait": 6, "forward": 12, "backward": 12, "communication": 60, "optimizer": 6,
    "evaluation": 3, "before a save": 3, "writing a save": 3, "sealing a save": 3,
    "after a save": 2, "after training": 1,
}  # fmt: skip
MOST_DELAY_SECONDS = 0.02
SMALL = (("backward", 1), ("evaluation", 0))  # the rank to kill
LONG = [
    (phase, rank, seed) for phase in ENTRIES for rank in (0, 1, None) for seed in range(2)
]  # None: all ranks


def killed_and_resumed(
    phase: str,
    rank: int | None,
    seed: int,
    prepared: Path,
    tmp_path: Path,
    factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kill at one instant of the phase, look, go on, compare."""
    rng = random.Random(f"{phase} {rank} {seed}")
    death = {
        "rank": rank,
        "at": phase,
        "entry": rng.randint(1, ENTRIES[phase]),
        "delay_seconds": rng.choice([0.0, rng.uniform(0, MOST_DELAY_SECONDS)]),
    }
    whole = oracle.uninterrupted(SHAPE, prepared, factory)
    folder = shutil.copytree(prepared, tmp_path / "workplace")
    with oracle.kept_in_view(tmp_path / "temporary", monkeypatch) as before:
        arguments: list[str | Path] = [PROGRAM, json.dumps(death), "recipe.toml", *SHAPE.overrides]
        done = run_ranks(arguments, 2, folder, timeout_seconds=120)
        if rank is None:  # the first to die may have the other end with code 5 before its turn
            assert -signal.SIGKILL in done.exit_codes, f"{death}: {done.text}"
            assert set(done.exit_codes) <= {-signal.SIGKILL, 5}, f"{death}: {done.text}"
        else:
            assert done.exit_codes[rank] == -signal.SIGKILL, f"{death}: {done.text}"
            assert done.exit_codes[1 - rank] == 5, f"{death}: {done.text}"
            told = oracle.one_cause(done)
            # The first collectives are those by which ranks learn of each other.
            has_met = phase != "communication" or "broke while they met" not in told
            assert not has_met or f"rank {rank} on " in told, death
        oracle.nothing_left(before)
        runs.finished(folder, 2, *SHAPE.overrides)
        oracle.same(folder, whole)
        oracle.nothing_left(before, folder)


@pytest.mark.parametrize(("phase", "rank"), SMALL)
def test_a_killed_rank(
    phase: str,
    rank: int | None,
    prepared: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed_and_resumed(phase, rank, 0, prepared, tmp_path, tmp_path_factory, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize(("phase", "rank", "seed"), LONG)
def test_a_rank_or_all_killed_in_every_phase(
    phase: str,
    rank: int | None,
    seed: int,
    prepared: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed_and_resumed(phase, rank, seed, prepared, tmp_path, tmp_path_factory, monkeypatch)


def driver_of(run: psutil.Process) -> psutil.Process:
    """`textmill run` itself."""
    return run


def agent_of(run: psutil.Process) -> psutil.Process:
    """The node agent, whose children the ranks are."""
    return next(child for child in run.children() if "launch.node" in child.cmdline())


@pytest.mark.soak
@pytest.mark.parametrize("victim", [driver_of, agent_of])
def test_a_killed_launcher(
    victim: Callable[[psutil.Process], psutil.Process],
    prepared: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`textmill run` or its agent: the ranks save and end by themselves."""
    whole = oracle.uninterrupted(SHAPE, prepared, tmp_path_factory)
    folder = shutil.copytree(prepared, tmp_path / "workplace")
    command = [sys.executable, "-m", "launch", "run", "recipe.toml", "launch.ranks=2"]
    with oracle.kept_in_view(tmp_path / "temporary", monkeypatch) as before:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        with (folder / "launcher.log").open("w") as log:
            launcher = subprocess.Popen(
                [*command, *SHAPE.overrides], cwd=folder, stdout=log, stderr=log
            )
        try:
            runs.metrics_reach(folder, 1)
            victim(psutil.Process(launcher.pid)).kill()
            code = launcher.wait(timeout=120)
        finally:
            launcher.kill()
            launcher.wait()
        assert code == -signal.SIGKILL or oracle.documented(code), code
        oracle.nothing_left(before)
        runs.finished(folder, 2, *SHAPE.overrides)
        oracle.same(folder, whole)
        oracle.nothing_left(before, folder)
