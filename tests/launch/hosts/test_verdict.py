"""Which failure came first, and what is said of it."""

import pytest

from launch.hosts import last_words
from launch.hosts.verdict import End, Loss, Verdict, verdict


def end(rank: int, code: int, at: float = 1.0, *lines: str) -> End:
    return End(rank, f"node-0{rank + 1}", code, at, lines)


@pytest.mark.parametrize(("codes", "code"), [((0, 0), 0), ((75, 75), 75), ((0, 75), 75)])
def test_ends_that_are_no_failure(codes: tuple[int, ...], code: int) -> None:
    assert verdict([end(rank, c) for rank, c in enumerate(codes)], []) == Verdict(code)


def test_the_first_failure_decides() -> None:
    found = verdict(
        [
            end(0, 5, 3.0, "textmill: LostRankError: communication broke"),
            end(1, 4, 2.0, "x", "textmill: NumericError: 5 in a row", "at exit"),
            end(2, 75, 1.0),
        ],
        [],
    )
    cause = "textmill: rank 1 on node-02 ended with exit code 4: NumericError: 5 in a row"
    assert found == Verdict(4, cause, 1)


def test_a_killed_rank_is_explained_by_what_another_says_of_it() -> None:
    told = "textmill: rank 1 on node-02 (pid 7) has stopped, by a signal; run again"
    found = verdict([end(0, 5, 2.0, told), end(1, -9, 1.0, "last step")], [])
    assert found.exit_code == -9
    assert found.cause == (
        "textmill: rank 1 on node-02 ended with SIGKILL: rank 1 on node-02 (pid 7) has stopped, by "
        "a signal; run again"
    )
    assert verdict([end(1, -9)], []).cause == "textmill: rank 1 on node-02 ended with SIGKILL"


def test_a_lost_machine_is_a_lost_rank() -> None:
    lost = Loss("node-02", (2, 3), 1.0, "ssh ended with exit code 255: timeout")
    found = verdict([end(0, 75, 2.0), end(1, 5, 3.0)], [lost])
    assert found.exit_code == 5
    assert found.cause == (
        "textmill: ranks 2 to 3 on node-02 cannot be followed any more: ssh ended with exit code "
        "255: timeout"
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["textmill: DataError: a", "textmill: SIGTERM received", "x"], "DataError: a"),
        (["textmill: rank 1 is gone", "x"], "rank 1 is gone"),
        (["Traceback", "KeyError: 'x'", "", "[rank1]:[W1126 x"], "KeyError: 'x'"),
        ([], None),
    ],
)
def test_last_words(lines: list[str], words: str | None) -> None:
    assert last_words.said(lines) == words
