"""Real ranks that are killed, stopped, stuck or slow: who is named, and how the others end."""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ranks import Finished, Rank, run_ranks, wait_for

pytestmark = pytest.mark.distributed
PROGRAM = Path(__file__).with_name("rank_program.py")
STACKS = "; stacks of all ranks: run/logs/pretrain/stacks-rank-*.txt; run again"
AT = 15  # the step of every fault: 0.75 s after the first, two beats at least
LOST = 5


def run(
    folder: Path, world_size: int, fault: Sequence[Any] | None, **given: Any
) -> tuple[Finished, list[int]]:
    """Ranks with a watchdog of 3 s; also returns their pids."""
    when = given.pop("when_running", lambda ranks: None)
    told = {"steps": 20, "seconds": 0.05, "min_seconds": 3, **given}
    told |= {} if fault is None else {"fault": fault}
    pids: list[int] = []

    def remember(ranks: Sequence[Rank]) -> None:
        pids.extend(rank.pid for rank in ranks)
        when(ranks)

    done = run_ranks(
        [PROGRAM, json.dumps(told)], world_size, folder, when_running=remember, timeout_seconds=120
    )
    assert not any(psutil.pid_exists(pid) for pid in pids)
    return done, pids


def causes(done: Finished) -> set[str]:
    """What the ranks that could speak said."""
    lines = [line for text in done.outputs for line in text.splitlines()]
    return {line for line in lines if line.startswith("textmill: ")}


def cause(done: Finished) -> str:
    """The one cause that all gave."""
    (found,) = causes(done)
    return found.removeprefix("textmill: ")


def stacks(folder: Path, rank: int) -> str:
    return (folder / f"run/logs/pretrain/stacks-rank-{rank}.txt").read_text()


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_sound_run_leaves_nothing(world_size: int, tmp_path: Path) -> None:
    done, _ = run(tmp_path, world_size, None)
    assert done.exit_codes == [0] * world_size, done.text
    assert not causes(done)
    assert not list((tmp_path / "run/logs/pretrain").iterdir())
    alone = "done with threads ['MainThread'], open ["
    for text in done.outputs:
        assert text.startswith(alone)
        assert text.count("socket:") <= 1  # the tests' own, of the server that forks ranks


@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_rank_is_gone(rank: int, tmp_path: Path) -> None:
    done, pids = run(tmp_path, 3, [rank, AT, "kill"])
    codes = [LOST] * 3
    codes[rank] = -signal.SIGKILL
    assert done.exit_codes == codes, done.text
    start = f"rank {rank} on "
    for said in causes(done):  # of rank 0 every rank has its own last report
        assert said.startswith(f"textmill: {start}")
        assert f" (pid {pids[rank]}) is gone: its process ended without a word" in said
        assert said.endswith(STACKS)
    assert "Traceback" not in done.text
    assert 'File "' in stacks(tmp_path, 1)


def test_a_rank_that_leaves_without_a_word_is_gone(tmp_path: Path) -> None:
    done, _ = run(tmp_path, 2, [1, AT, "exit"])
    assert done.exit_codes == [LOST, 0]
    assert " is gone: " in cause(done)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_rank_is_named_and_ended(rank: int, tmp_path: Path) -> None:
    done, pids = run(tmp_path, 3, [rank, AT, "stop"])
    codes = [LOST] * 3
    codes[rank] = done.exit_codes[rank]  # killed, unless it heard of it when it was woken
    assert done.exit_codes == codes, done.text
    assert codes[rank] in (-signal.SIGKILL, LOST)
    named = f" (pid {pids[rank]}) has stopped, by a signal or a debugger: no heartbeat for 2 s"
    assert named in cause(done)
    assert "in forward of step" in cause(done)
    assert "rank_program.py" in stacks(tmp_path, rank)


@pytest.mark.parametrize("rank", [0, 1])
def test_native_code_that_holds_the_interpreter(rank: int, tmp_path: Path) -> None:
    done, _ = run(tmp_path, 2, [rank, AT, "hold_interpreter"])
    assert done.exit_codes[1 - rank] == LOST, done.text
    assert done.exit_codes[rank] in (-signal.SIGKILL, LOST)
    assert " is stuck in native code that holds the interpreter and waits: " in cause(done)
    assert "in hold_interpreter" in stacks(tmp_path, rank)


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("sleep", "forward of step 15"),
        ("spin", "forward of step 15"),
        ("hang_in_evaluation", "evaluation in forward of step 15"),
    ],
)
def test_a_rank_that_hangs_is_named_with_its_stacks(fault: str, where: str, tmp_path: Path) -> None:
    done, pids = run(tmp_path, 3, [1, AT, fault])
    assert done.exit_codes == [LOST] * 3, done.text
    assert cause(done).endswith(
        f" (pid {pids[1]}) hangs in {where}: no progress for 2 s, while 2 other ranks wait{STACKS}"
    )
    for rank in range(3):
        assert "threads: " in stacks(tmp_path, rank)
    assert f"in {'<lambda>' if fault == 'sleep' else fault}\n" in stacks(tmp_path, 1)
    assert "in sum_over_ranks" in stacks(tmp_path, 0)


def test_alone_a_rank_watches_itself(tmp_path: Path) -> None:
    done, _ = run(tmp_path, 1, [0, AT, "sleep"])
    assert done.exit_codes == [LOST], done.text
    assert " hangs in forward of step 15: no progress for 2 s; stacks" in cause(done)


@pytest.mark.parametrize("fault", ["crawl", "evaluate_long", "save_long"])
def test_slow_is_not_hung(fault: str, tmp_path: Path) -> None:
    """Each takes 6 s without a step, twice the limit."""
    done, _ = run(tmp_path, 2, [1, AT, fault])
    assert done.exit_codes == [0, 0], done.text
    assert not causes(done)


def test_a_pause_of_all_ranks_blames_nobody(tmp_path: Path) -> None:
    """As a scheduler suspends a job: longer than the limit."""

    def suspend(ranks: Sequence[Rank]) -> None:
        wait_for((tmp_path / "step-0").is_file, "the first step")
        for number, seconds in ((signal.SIGSTOP, 6.0), (signal.SIGCONT, 0.0)):
            for rank in ranks:
                rank.send_signal(number)
            time.sleep(seconds)

    done, _ = run(tmp_path, 2, None, steps=40, when_running=suspend)
    assert done.exit_codes == [0, 0], done.text
    assert not causes(done)


def test_the_error_of_one_rank_is_the_error_of_the_run(tmp_path: Path) -> None:
    done, pids = run(tmp_path, 3, [2, AT, "refuse"])
    assert done.exit_codes == [3, 3, 3], done.text
    said = "DataError: shard 7 is unreadable; repair it"
    (other,) = causes(done) - {f"textmill: {said}"}
    assert other.endswith(f" (pid {pids[2]}) ended with {said}")
    assert not list((tmp_path / "run/logs/pretrain").iterdir())


def test_a_bug_of_one_rank_keeps_its_traceback_there(tmp_path: Path) -> None:
    done, _ = run(tmp_path, 2, [0, AT, "break_down"])
    assert done.exit_codes == [1, 1], done.text
    assert "Traceback" in done.outputs[0]
    assert "Traceback" not in done.outputs[1]
    assert cause(done).endswith("ended with ValueError: a bug")


def test_an_error_that_all_ranks_have_is_told_by_each(tmp_path: Path) -> None:
    done, _ = run(tmp_path, 2, ["all", AT, "fail_together"])
    assert done.exit_codes == [3, 3], done.text
    assert causes(done) == {"textmill: DataError: shard 7 is unreadable; repair it"}


def test_quit_writes_stacks_and_the_run_goes_on(tmp_path: Path) -> None:
    def ask(ranks: Sequence[Rank]) -> None:
        wait_for((tmp_path / "step-1").is_file, "the first step")
        ranks[1].send_signal(signal.SIGQUIT)

    done, _ = run(tmp_path, 2, None, steps=40, when_running=ask)
    assert done.exit_codes == [0, 0], done.text
    assert "rank_program.py" in stacks(tmp_path, 1)
    assert not (tmp_path / "run/logs/pretrain/stacks-rank-0.txt").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_on_other_machines_a_stopped_rank_ends_when_it_wakes(rank: int, tmp_path: Path) -> None:
    def wake(ranks: Sequence[Rank]) -> None:
        wait_for(lambda: ranks[1 - rank].poll() is not None, "the end of the other rank")
        ranks[rank].send_signal(signal.SIGCONT)

    done, _ = run(tmp_path, 2, [rank, AT, "stop"], machines=[0, 1], when_running=wake)
    assert done.exit_codes == [LOST, LOST], done.text
    said = done.outputs[1 - rank]
    assert f"rank {rank} on node-{rank} (pid" in said
    assert " has stopped or holds the interpreter: no heartbeat for 2 s" in said


def test_a_neighbour_looks_after_a_stopped_rank(tmp_path: Path) -> None:
    """Rank 0 is on another machine: what rank 1 sees there counts."""
    done, pids = run(tmp_path, 3, [2, AT, "stop"], machines=[0, 1, 1])
    assert done.exit_codes[:2] == [LOST, LOST], done.text
    assert done.exit_codes[2] in (-signal.SIGKILL, LOST)
    assert cause(done).startswith(f"rank 2 on node-1 (pid {pids[2]}) has stopped, by a signal")
    assert "rank_program.py" in stacks(tmp_path, 2)


def test_a_neighbour_finds_excuses_for_a_silent_rank(tmp_path: Path) -> None:
    """Native code that holds the interpreter for 6 s, but works, and not in a step."""
    done, _ = run(tmp_path, 3, [2, AT, "work_silently"], machines=[0, 1, 1])
    assert done.exit_codes == [0, 0, 0], done.text
    assert not causes(done)


def test_a_collective_that_breaks_without_a_reason_ends_all(tmp_path: Path) -> None:
    done, pids = run(tmp_path, 3, [1, AT, "break_collective"])
    assert done.exit_codes == [LOST] * 3, done.text
    assert f" (pid {pids[1]}): [third_party/gloo/" in cause(done)
    assert cause(done).startswith("communication broke on rank 1 on ")
    assert "Traceback" not in done.text


def test_without_the_watchdog_a_broken_collective_is_still_no_traceback(tmp_path: Path) -> None:
    done, _ = run(tmp_path, 2, [1, AT, "kill"], enabled=False)
    assert done.exit_codes == [LOST, -signal.SIGKILL], done.text
    assert cause(done).startswith("LostRankError: communication with the other ranks broke (")
    assert "Traceback" not in done.text


def test_ranks_that_do_not_come_are_told(tmp_path: Path) -> None:
    """One rank of two is started."""
    told = json.dumps({"steps": 1, "seconds": 0, "min_seconds": 3, "timeout": 2})
    alone = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    done = run_ranks([PROGRAM, told], 1, tmp_path, alone, timeout_seconds=120)
    assert done.exit_codes == [LOST], done.text
    assert "LostRankError: not all ranks came together at 127.0.0.1:" in done.text
    assert "Traceback" not in done.text
