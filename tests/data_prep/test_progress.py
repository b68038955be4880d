"""Progress: rate and time left of this run alone, in units people read."""

import re
import time

import pytest

from data_prep.progress import Pace, Progress, scaled
from runtime.readable import duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rate_and_time_left(clock: list[float]) -> None:
    pace = Pace([1_000_000, 2_000_000, 3_000_000], [0, 1, 2], "B")
    assert pace.text() == "0.0 B/s  eta ?"
    clock[0] += 2
    pace.add(1)
    assert pace.text() == "1.0 MB/s  eta 4s"


def test_what_was_done_before_is_no_speed(clock: list[float]) -> None:
    pace = Pace([10, 10, 10, 10], [2, 3], "units")
    assert pace.done == 20
    clock[0] += 5
    pace.add(2)
    assert (pace.done, pace.rate()) == (30, 2.0)
    assert pace.text().endswith("eta 5s")


def test_units() -> None:
    assert [scaled(value) for value in (0.25, 999, 1500, 2.5e6, 7e9, 1e12)] == [
        "0.2 ", "999.0 ", "1.5 k", "2.5 M", "7.0 G", "1.0 T",
    ]  # fmt: skip
    assert [duration(value) for value in (0.4, 59, 200, 3600, 11_520, 187_200)] == [
        "0s", "59s", "3m20s", "1h0m", "3h12m", "2d4h",
    ]  # fmt: skip


def test_lines_where_there_is_no_terminal(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(num_workers=3).track("read", [1_000_000] * 100, range(50, 100)) as advance:
        for number in range(50, 100):
            clock[0] += 10
            advance(number)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 50 * 10 // 40 + 1  # one in LINE_SECONDS and a bit, and the last
    assert lines[0] == "read        54.0%  100.0 kB/s  eta 7m40s"
    assert lines[-1] == ("read        500.0 s    100.0 kB/s  50 units, 50 done before, 3 workers")


def test_sizes_that_are_not_known(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(num_workers=1).track("read", [0, 5, 5], [0, 1, 2]) as advance:
        for number in range(3):
            clock[0] += 1
            advance(number)
    assert re.search(r"1\.0 units/s  3 units$", capsys.readouterr().err)


def test_a_pass_that_is_cut_short_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        with Progress(num_workers=1).track("read", [1], [0]):
            raise ValueError("no")

    with pytest.raises(ValueError):
        fails()
    assert capsys.readouterr().err == ""
