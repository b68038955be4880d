"""Which seconds count against a rank that stands still."""

import pytest

from runtime.watchdog.activity import Activity
from runtime.watchdog.conduct import Conduct
from runtime.watchdog.report import Report
from runtime.watchdog.stall import Clock, OwnReport, weight

IDLE = Conduct(is_known=True)
WORKING = Conduct(is_known=True, is_working=True)
MOVING = Conduct(is_known=True, is_moving=True)
DISK = Conduct(is_known=True, waits_for_disk=True)
STOPPED = Conduct(is_known=True, is_stopped=True)
UNKNOWN = Conduct()
STEP = Report(5, 5, 0, ("step", "forward"), is_settled=True)
FIRST_STEP = Report(1, 1, 0, ("step", "forward"))
EVALUATION = Report(5, 5, 0, ("step", "evaluation", "forward"), is_settled=True)
CHECKPOINT = Report(5, 5, 0, ("step", "checkpoint"), is_settled=True)
START = Report()
END = Report(9, 9, 0, ("end",), is_settled=True)


@pytest.mark.parametrize(
    ("report", "found", "counts"),
    [
        (STEP, IDLE, 1.0),
        (STEP, WORKING, 1.0),
        (STEP, UNKNOWN, 1.0),
        (STEP, MOVING, 0.0),
        (STEP, DISK, 0.0),
        (FIRST_STEP, IDLE, 1 / 3),
        (FIRST_STEP, WORKING, 0.0),
        (EVALUATION, IDLE, 1.0),
        (EVALUATION, WORKING, 0.0),
        (EVALUATION, UNKNOWN, 1 / 15),
        (CHECKPOINT, IDLE, 1.0),
        (CHECKPOINT, DISK, 0.0),
        (CHECKPOINT, MOVING, 0.0),
        (START, IDLE, 1 / 15),
        (START, WORKING, 0.0),
        (END, IDLE, 1 / 15),
        (END, WORKING, 0.0),
        (START, STOPPED, 1.0),
        (STEP, STOPPED, 1.0),
    ],
)
def test_what_a_second_counts(report: Report, found: Conduct, counts: float) -> None:
    assert weight(report, found) == counts


def test_every_second_counts_of_a_machine_that_confirms_nothing() -> None:
    for report in (STEP, FIRST_STEP, EVALUATION, CHECKPOINT, START, END):
        assert weight(report, UNKNOWN, is_cut_off=True) == 1.0
    assert weight(EVALUATION, WORKING, is_cut_off=True) == 0.0  # on this machine: it is seen


def test_seconds_without_a_processor_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Conduct(is_known=True, is_working=True, starved_seconds=1.5)
    monkeypatch.setattr("runtime.watchdog.conduct.between", lambda *looks: found)
    clock = Clock(None)
    clock.add(2.0, STEP)
    clock.add(1.0, STEP)  # starved for longer than the time there was: rounding of ticks
    assert (clock.counted, clock.still) == (0.5, 3.0)


def test_progress_starts_the_count_again() -> None:
    doing = Activity()
    own = OwnReport(doing, 0)  # no process has this number: nothing excuses anything
    for step in range(1, 4):
        doing.begin_step(step)
        doing.end_step()
    assert own.update(1.0).still == 0.0
    assert (own.update(1.0).still, own.update(2.0).still) == (1.0, 3.0)
    assert own.report.counted == 3.0
    doing.tick()
    assert own.update(1.0).still == 0.0
    assert own.report.where == "the loop at step 3"
