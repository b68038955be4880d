"""Who is blamed, in small worlds that can be checked by eye. The limit is 20 s throughout."""

from dataclasses import replace

import pytest

from runtime.watchdog import verdict
from runtime.watchdog.conduct import Conduct
from runtime.watchdog.report import Member, Report

MEMBERS = [
    Member(rank, f"node-{rank // 2}", f"machine {rank // 2}", 800 + rank, 5) for rank in range(4)
]
# In the seventh collective of step 12, for longer than the limit.
WAITS = Report(
    12, 12, 7, ("step", "backward", "communication"), "all_reduce", True, 1.0, 16.0, 16.0
)
HANGS = Report(12, 12, 6, ("step", "data_wait"), "all_reduce", True, 1.0, 16.0, 16.0)


def hung(*reports: Report) -> str | None:
    return verdict.hung(MEMBERS, dict(enumerate(reports)), 20.0)


def test_the_rank_the_others_wait_for_is_named() -> None:
    assert hung(WAITS, WAITS, HANGS, WAITS) == (
        "rank 2 on node-1 (pid 802) hangs in data_wait of step 12: no progress for 15 s, "
        "while 3 other ranks wait"
    )
    assert hung(WAITS, HANGS, HANGS, WAITS) == (
        "rank 1 on node-0 (pid 801) hangs in data_wait of step 12; rank 2 on node-1 (pid 802) "
        "hangs in data_wait of step 12: no progress for 15 s, while 2 other ranks wait"
    )


def test_on_a_gpu_ranks_wait_in_any_call_but_have_entered_more_collectives() -> None:
    waits = replace(HANGS, collectives=9, phases=("step", "backward"))
    found = hung(waits, HANGS, waits)
    assert found is not None
    assert found.startswith("rank 1 on node-0 (pid 801) hangs in data_wait of step 12: ")


def test_a_rank_in_an_earlier_step_is_behind() -> None:
    behind = replace(HANGS, step=11, begun=11, collectives=90)
    found = hung(WAITS, behind)
    assert found is not None
    assert found.startswith("rank 1 on node-0 (pid 801) hangs in data_wait of step 11: ")


@pytest.mark.parametrize(
    "reports",
    [
        (WAITS, replace(HANGS, counted=14.9)),  # a little longer
        (WAITS, replace(HANGS, still=3.9, counted=3.9)),
        (replace(WAITS, still=1.0), HANGS),  # one comes further: nothing hangs
        (WAITS, replace(HANGS, counted=0.0)),  # it reads, or is starved
        (WAITS, WAITS, replace(WAITS, counted=0.0)),  # bytes flow
        (),
    ],
    ids=["soon", "short", "progress", "excused", "flowing", "nobody"],
)
def test_nobody_is_blamed_too_early(reports: tuple[Report, ...]) -> None:
    assert hung(*reports) is None


def test_of_two_that_are_behind_the_one_at_work_is_waited_for() -> None:
    assert hung(WAITS, HANGS, replace(HANGS, counted=0.0)) is None


def test_the_network_is_blamed_if_all_wait_in_the_same_place() -> None:
    assert hung(WAITS, WAITS, WAITS) == (
        "all 3 ranks wait in communication (all_reduce) in backward of step 12: no progress for "
        "15 s; the network between them does not deliver"
    )


def test_different_collectives_are_told() -> None:
    found = hung(WAITS, replace(WAITS, operation="barrier"))
    assert found == (
        "ranks wait for each other in different places: rank 0 in communication (all_reduce) in "
        "backward of step 12; rank 1 in communication (barrier) in backward of step 12: no "
        "progress for 15 s"
    )


def test_a_rank_whose_collective_the_others_have_left() -> None:
    found = hung(replace(WAITS, collectives=8), WAITS)
    assert found == (
        "rank 1 on node-0 (pid 801): no progress for 15 s in communication (all_reduce) in "
        "backward of step 12, which the other ranks have left; the network does not deliver"
    )


def test_a_rank_alone_hangs_without_anybody_waiting() -> None:
    assert hung(HANGS) == (
        "rank 0 on node-0 (pid 800) hangs in data_wait of step 12: no progress for 15 s"
    )


def test_silence_has_names() -> None:
    def silent(found: Conduct, is_unacknowledged: bool = False) -> str:
        return verdict.silent(MEMBERS[3], HANGS, found, is_unacknowledged, 20.0)

    end = ": no heartbeat for 15 s, last seen in data_wait of step 12"
    start = "rank 3 on node-1 (pid 803) "
    assert silent(Conduct(True, is_stopped=True)) == (
        f"{start}has stopped, by a signal or a debugger{end}"
    )
    assert silent(Conduct(True, is_working=True)) == (
        f"{start}is stuck in native code that holds the interpreter and computes{end}"
    )
    assert silent(Conduct(), is_unacknowledged=True) == (
        f"{start}cannot be reached, its machine or the link to it is down{end}"
    )
    assert silent(Conduct()) == f"{start}has stopped or holds the interpreter{end}"


def test_the_limit_follows_slow_steps() -> None:
    slow, fast = replace(WAITS, p99_seconds=30.0), replace(WAITS, p99_seconds=0.1)
    assert verdict.limit_seconds(20, 3.0, [slow, fast]) == 90.0
    assert verdict.limit_seconds(20, 3.0, [fast]) == 20.0
    assert verdict.limit_seconds(20, 3.0, []) == 20.0


def test_reports_and_verdicts_travel() -> None:
    assert Report.of_json(WAITS.as_json()) == WAITS
    found = verdict.Verdict("cause", 5, [0, 1], [2])
    assert verdict.Verdict.of_json(found.as_json()) == found


def test_where_a_rank_is() -> None:
    assert Report().where == "start"
    assert replace(HANGS, phases=("step", "evaluation", "forward")).where == (
        "forward in evaluation of step 12"
    )
    assert replace(HANGS, phases=("end",)).where == "end after step 12"
