"""Pretraining runs of the tests: how they are started, stopped at any instant and compared."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.ranks import Finished, Rank, run_ranks, wait_for

RUN = ["-m", "pretrain", "recipe.toml"]
FAULTY = [str(Path(__file__).with_name("faulty_run.py"))]


def start(folder: Path, world_size: int = 2, *overrides: str, **how: Any) -> Finished:
    return run_ranks([*RUN, *overrides], world_size, folder, **{"timeout_seconds": 120, **how})


def finished(folder: Path, world_size: int = 2, *overrides: str, **how: Any) -> Finished:
    """Start a run that must come to its end."""
    done = start(folder, world_size, *overrides, **how)
    assert done.exit_codes == [0] * world_size, done.text
    return done


def faulty(folder: Path, faults: dict[int, float], *overrides: str, **how: Any) -> Finished:
    """Start a run of 2 ranks with wrong gradients; see faulty_run.py."""
    arguments = [*FAULTY, json.dumps(faults), "recipe.toml", *overrides]
    return run_ranks(arguments, 2, folder, **{"timeout_seconds": 120, **how})


def stage(folder: Path) -> Path:
    return folder / "run/pretrain"


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, read."""
    return [json.loads(line) for line in (stage(folder) / "metrics.jsonl").read_text().splitlines()]


def metrics_reach(folder: Path, step: int) -> None:
    """Wait until a running run has logged a step."""
    path = stage(folder) / "metrics.jsonl"
    wait_for(lambda: path.is_file() and f'{{"step": {step},' in path.read_text(), f"step {step}")


def kill_after(folder: Path, step: int, seconds: float) -> Callable[[Sequence[Rank]], None]:
    """SIGKILL to one rank at any instant of the `seconds` after a step."""

    def kill(ranks: Sequence[Rank]) -> None:
        metrics_reach(folder, step)
        rng = random.Random(os.urandom(8))
        time.sleep(rng.uniform(0, seconds))
        rng.choice(ranks).kill()

    return kill


def stop_after(folder: Path, step: int) -> Callable[[Sequence[Rank]], None]:
    """SIGTERM to the last rank once a step is logged."""

    def stop(ranks: Sequence[Rank]) -> None:
        metrics_reach(folder, step)
        ranks[-1].send_signal(signal.SIGTERM)

    return stop


def ledgers(folder: Path) -> dict[str, list[str]]:
    """The lines of every rank's ledger by file name."""
    paths = sorted((stage(folder) / "ledger").glob("rank-*.jsonl"))
    return {path.name: path.read_text().splitlines() for path in paths}


def records(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    """A rank's ledger, read."""
    return [json.loads(line) for line in ledgers(folder)[f"rank-{rank:05d}.jsonl"]]


def hashes(folder: Path) -> list[tuple[int, list[str]]]:
    """Step by step the hashes of all micro batches of all ranks, in any order."""
    found: dict[int, list[str]] = {}
    for lines in ledgers(folder).values():
        for record in map(json.loads, lines):
            found.setdefault(record["step"], []).extend(record["micro_batches"])
    return [(step, sorted(found[step])) for step in sorted(found)]


def weights(folder: Path) -> bytes:
    return (stage(folder) / "export/model.safetensors").read_bytes()


def assert_same(folder: Path, straight: Path) -> None:
    """The same ledgers, line by line and bit by bit, and the same exported weights."""
    ours, theirs = ledgers(folder), ledgers(straight)
    assert ours.keys() == theirs.keys()
    for name, lines in theirs.items():
        assert ours[name] == lines, name
    assert weights(folder) == weights(straight)
