"""Two jobs on one run: the second refuses; one that was taken over while it stood still writes no
checkpoint any more."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime import run_lock
from tests.pretrain.conftest import prepared as prepared
from tests.pretrain.conftest import workplace as workplace
from tests.pretrain.runs import finished, metrics_reach, stage, start
from tests.ranks import Rank

pytestmark = pytest.mark.distributed


def test_the_second_job_refuses_on_all_ranks(workplace: Path) -> None:
    with run_lock.owned(run_lock.path_of(workplace / "run", "pretrain"), "this test") as lock:
        done = start(workplace)
        assert done.exit_codes == [8, 8], done.text
        assert "Traceback" not in done.text
        for output in done.outputs:
            assert f"pretrain is in use by process {lock.owner.pid} of " in output
        assert lock.is_mine()
    assert not stage(workplace).exists()


def test_a_job_that_was_taken_over_writes_no_checkpoint(workplace: Path) -> None:
    path = run_lock.path_of(workplace / "run", "pretrain")

    def take_over(ranks: Sequence[Rank]) -> None:
        metrics_reach(workplace, 3)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "another"}))

    often = "checkpoint.interval_steps=8"
    done = start(workplace, 2, often, when_running=take_over)
    assert done.exit_codes == [5, 5], done.text
    assert "another job has taken over this run while this one stood still" in done.text
    assert "Traceback" not in done.text
    checkpoints = stage(workplace) / "checkpoints"
    assert not list(checkpoints.glob("step-????????"))
    assert json.loads(path.read_text())["token"] == "another"

    path.unlink()
    finished(workplace, 2, often)
    assert not list(path.parent.iterdir())
