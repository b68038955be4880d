"""Runs with wrong gradients on one rank: every rank refuses the same updates, names their data,
goes back over them, and does it all again the same way after a stop or a kill.

The guard looks at the last 4 norms here, and goes back after 3 refusals; checkpoints stand at every
4th of 12 steps.
"""

import json
import math
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pretrain.runs import (
    assert_same,
    faulty,
    kill_after,
    ledgers,
    metrics,
    records,
    stage,
    stop_after,
)
from tests.ranks import Rank, wait_for

pytestmark = pytest.mark.distributed
GUARD = ("guard.window_steps=4", "guard.max_skips_in_a_row=3", "guard.max_rollbacks=1")
SKIPS = {5: 1000.0, 7: math.nan}  # a spike and a NaN, in the gradients of the last rank alone
STRETCH = {8: 1000.0, 9: math.nan, 10: math.nan}


def refused(folder: Path, rank: int) -> dict[int, str]:
    return {r["step"]: r["refused"] for r in records(folder, rank) if "refused" in r}


def run(folder: Path, faults: dict[int, float], exit_code: int = 0, **how: Any) -> str:
    done = faulty(folder, faults, *GUARD, **how)
    assert done.exit_codes == [exit_code] * 2, done.text
    return done.text


@pytest.fixture(scope="module")
def skipping(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run in which two updates are refused; its output in `output`."""
    folder = tmp_path_factory.mktemp("skipping") / "workplace"
    shutil.copytree(prepared, folder)
    (folder / "output").write_text(run(folder, SKIPS))
    return folder


@pytest.fixture(scope="module")
def returning(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run that goes back once; its output in `output`."""
    folder = tmp_path_factory.mktemp("returning") / "workplace"
    shutil.copytree(prepared, folder)
    (folder / "output").write_text(run(folder, STRETCH))
    return folder


def test_all_ranks_refuse_what_one_of_them_computed_wrongly(skipping: Path) -> None:
    for rank in range(2):
        reasons = refused(skipping, rank)
        assert list(reasons) == [6, 8]
        assert "is a spike" in reasons[6]
        assert reasons[8].endswith(("gradient norm nan", "gradient norm inf"))
    steps = records(skipping)
    assert [step["data_step"] for step in steps] == list(range(12))
    assert all(math.isfinite(float.fromhex(step["loss"])) for step in steps)
    logged = metrics(skipping)
    assert logged[-1]["loss/valid"] < logged[0]["loss/valid"] - 0.1  # it learnt all the same


def test_a_refused_step_names_its_documents(skipping: Path) -> None:
    told = [line for line in (skipping / "output").read_text().splitlines() if "documents:" in line]
    assert len(told) == 2
    assert told[0].startswith("step 6 was not applied (gradient norm")
    assert "plants" in told[0] or "ships" in told[0]


def test_skips_are_replayed_after_a_kill(skipping: Path, workplace: Path) -> None:
    killed = faulty(workplace, SKIPS, *GUARD, when_running=kill_after(workplace, 6, seconds=0.3))
    assert -signal.SIGKILL in killed.exit_codes
    run(workplace, SKIPS)
    assert_same(workplace, skipping)


def test_a_run_goes_back_and_passes_over_the_data(returning: Path) -> None:
    """Steps 9 to 11 are refused: back to the checkpoint of step 8, on with the 12th data step."""
    assert (
        "going back to step 8, passing over the data of 3 steps"
        in (returning / "output").read_text()
    )
    for rank in range(2):
        steps = records(returning, rank)
        assert [step["step"] for step in steps] == list(range(1, 13))
        assert [step["data_step"] for step in steps] == [*range(8), *range(11, 15)]
        assert refused(returning, rank) == {}  # what was given up is not in the ledger
    manifest = json.loads((stage(returning) / "manifest.json").read_text())
    assert manifest["position"]["rollbacks"] == 1
    assert manifest["position"]["data_offset"] == 3


ONE_KEPT = ("train.evaluate_every_steps=4", "checkpoint.keep_last=1")


def test_the_best_step_is_saved_although_its_update_was_refused(workplace: Path) -> None:
    """What is restored at the end of fine-tuning."""
    stopped = faulty(
        workplace, {7: math.nan}, *GUARD, *ONE_KEPT, when_running=stop_after(workplace, 8)
    )
    assert stopped.exit_codes == [75, 75], stopped.text
    assert list(refused(workplace, 0)) == [8]
    assert (stage(workplace) / "checkpoints/step-00000008/MANIFEST.json").is_file()


def test_the_best_step_leaves_the_checkpoint_to_go_back_to(workplace: Path) -> None:
    """Steps 8 to 10 are refused, the evaluation after step 8 is the best so far."""
    faults = {7: math.nan, 8: math.nan, 9: math.nan}
    done = faulty(workplace, faults, *GUARD, *ONE_KEPT)
    assert done.exit_codes == [0, 0], done.text
    assert "going back to step 4, passing over the data of 6 steps" in done.text


def test_going_back_is_the_same_after_a_stop_and_a_kill(returning: Path, workplace: Path) -> None:
    """Stopped at a step of its own before the refusals, killed after going back."""
    stopped = faulty(workplace, STRETCH, *GUARD, when_running=stop_after(workplace, 8))
    assert stopped.exit_codes == [75, 75], stopped.text
    ended = records(workplace)[-1]["step"]

    def kill_later(ranks: Sequence[Rank]) -> None:
        went_back = workplace.glob("rank-0-*.log")
        logs = sorted(went_back, key=lambda path: path.stat().st_mtime)
        wait_for(lambda: "going back to step 8" in logs[-1].read_text(), f"a return; {ended}")
        ranks[1].kill()

    killed = faulty(workplace, STRETCH, *GUARD, when_running=kill_later)
    assert -signal.SIGKILL in killed.exit_codes, killed.text
    run(workplace, STRETCH)
    assert_same(workplace, returning)


def test_a_run_that_must_go_back_too_often_ends_with_exit_code_4(workplace: Path) -> None:
    text = run(workplace, dict.fromkeys(range(8, 40), math.nan), exit_code=4)
    assert "3 updates in a row were refused up to step 11, after going back 1 times" in text
    assert "it continues from step 8" in text
    assert not (stage(workplace) / "export").exists()
    # the checkpoint it continues from is sound: without the faults it comes to its end
    run(workplace, {})
    assert ledgers(workplace).keys() == {"rank-00000.jsonl", "rank-00001.jsonl"}
