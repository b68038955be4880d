"""`textmill run` with real stages is stopped, and continued by the same command."""

import json
import signal
from pathlib import Path

import pytest

from tests.launch.tiny import ended, start, textmill
from tests.ranks import wait_for


@pytest.mark.slow
@pytest.mark.distributed
def test_stop_returns_75_and_the_same_command_continues(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().partition("[tasks.")[0])
    more = ("train.total_tokens=38400", "train.evaluate_every_steps=50")  # 150 steps
    run = recipe.parent / "run"
    metrics = run / "pretrain" / "metrics.jsonl"

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in metrics.read_text().splitlines()]

    process = start("run", recipe, *more)
    try:
        wait_for(
            lambda: (
                (metrics.is_file() and metrics.read_text().count("\n") > 2)
                or process.poll() is not None
            ),
            "steps",
        )
    finally:
        process.send_signal(signal.SIGTERM)
        code, shown = ended(process)
    assert code == 75, shown
    assert "stops as soon as it has saved" in shown
    stopped_at = steps()[-1]
    assert list((run / "pretrain" / "checkpoints").glob("step-*"))
    assert "stopped" in textmill("status", run)[1]

    code, shown = textmill("run", recipe, *more)
    assert code == 0, shown
    assert "data_prep: up to date" in shown
    assert steps() == sorted(set(steps()))
    assert 0 < stopped_at < 150 == steps()[-1]
