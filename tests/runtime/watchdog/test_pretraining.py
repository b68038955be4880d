"""The watchdog in real pretraining runs under ZeRO-3, whose ranks wait for each other all the
time."""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.pretrain.conftest import prepared as prepared
from tests.pretrain.conftest import workplace as workplace
from tests.pretrain.runs import RUN, finished, metrics, metrics_reach, stage
from tests.ranks import Finished, Rank, run_ranks

pytestmark = pytest.mark.distributed
HANGING = Path(__file__).with_name("hanging_run.py")
LOGS = "run/logs/pretrain"


def faulty(folder: Path, world_size: int, *fault: object, limit: int = 3) -> Finished:
    overrides = f"watchdog.min_seconds={limit}", f"train.global_batch_size={4 * world_size}"
    arguments = [HANGING, json.dumps(fault), "recipe.toml", *overrides]
    return run_ranks(arguments, world_size, folder, timeout_seconds=240)


def cause(done: Finished) -> str:
    lines = {line for line in done.text.splitlines() if line.startswith("textmill: ")}
    (found,) = lines
    return found


def test_a_stopped_rank_ends_the_run_in_twenty_seconds_and_it_goes_on(workplace: Path) -> None:
    """With the limit of the recipe's default."""
    done = faulty(workplace, 2, 1, 6, "stop", limit=20)
    last = metrics(workplace)[-1]
    assert last["step"] == 6
    assert done.exit_codes[0] == 5, done.text
    assert " has stopped, by a signal or a debugger: no heartbeat for 15 s" in cause(done)
    assert "rank 1 on " in cause(done)
    assert cause(done).endswith(f"; stacks of all ranks: {LOGS}/stacks-rank-*.txt; run again")
    for rank in range(2):
        assert "pretrain/train.py" in (workplace / f"{LOGS}/stacks-rank-{rank}.txt").read_text()
    assert time.time() - last["time"] < 60  # the machine may be busy
    finished(workplace, 2, "train.global_batch_size=8")
    assert metrics(workplace)[-1]["step"] == 24


def test_a_rank_that_hangs_in_its_data_is_named(workplace: Path) -> None:
    done = faulty(workplace, 3, 2, 4, "sleep")
    assert done.exit_codes == [5, 5, 5], done.text
    assert "rank 2 on " in cause(done)
    assert " hangs in data_wait of step 5: no progress for 2 s, while 2 other ranks" in cause(done)
    assert "Traceback" not in done.text


def test_a_killed_rank_ends_the_others_without_a_traceback(workplace: Path) -> None:
    def kill(ranks: Sequence[Rank]) -> None:
        metrics_reach(workplace, 3)
        ranks[0].kill()

    done = run_ranks(RUN, 2, workplace, when_running=kill, timeout_seconds=120)
    assert done.exit_codes == [-signal.SIGKILL, 5], done.text
    assert cause(done).startswith("textmill: rank 0 on ")
    assert " is gone: its process ended without a word" in cause(done)
    assert "Traceback" not in done.text


@pytest.mark.parametrize("fault", ["slow_save", "slow_evaluation"])
def test_what_takes_long_but_comes_further_is_left_alone(fault: str, workplace: Path) -> None:
    """Each takes longer than the limit, and no part of it does."""
    done = faulty(workplace, 2, 1, 0, fault)
    assert done.exit_codes == [0, 0], done.text
    assert (stage(workplace) / "manifest.json").is_file()
    assert not list((workplace / LOGS).iterdir())
