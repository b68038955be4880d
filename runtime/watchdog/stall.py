"""How long a rank has stood still, in seconds that count.

A second counts fully when nothing excuses it. It does not count while data move, a disk is waited
for, or the processor was busy with others: such a rank is slow, not hung. Between steps (building,
evaluation, hooks, checkpoints, the end) there is no usual duration, so that a second in which the
process computes does not count either: there the time-out of the collectives ends what never ends.
"""

from runtime.watchdog import conduct
from runtime.watchdog.activity import END, LONG, START, Activity
from runtime.watchdog.conduct import Conduct, Look
from runtime.watchdog.report import Report

OUTSIDE_WEIGHT = 1 / 15  # of an idle second at the start or the end: downloads, locks of a cache
UNUSUAL_WEIGHT = 1 / 3  # of an idle second in the first steps
FIRST_LOOK = 2  # beats for which this rank may stand still without being looked at
UNSEEN_WEIGHT = 1 / 15  # of a second between steps of a process that nobody can look at


def weight(report: Report, found: Conduct, is_cut_off: bool = False) -> float:
    """What a second counts in which a rank does not come further; `is_cut_off`: its machine does
    not even confirm what is sent to it."""
    is_between = not LONG.isdisjoint(report.phases)
    if found.is_stopped or (is_cut_off and not found.is_known):
        return 1.0
    if found.is_moving or found.waits_for_disk:
        return 0.0
    if is_between and not found.is_known:
        return UNSEEN_WEIGHT
    if (is_between or not report.is_settled) and found.is_working:
        return 0.0
    if not {START, END}.isdisjoint(report.phases):
        return OUTSIDE_WEIGHT
    return 1.0 if is_between or report.is_settled else UNUSUAL_WEIGHT


class Clock:
    """Counts the seconds in which one rank stands still."""

    def __init__(self, pid: int | None, first_look: int = 0) -> None:
        self.pid = pid  # of a process on this machine; None: nobody can look at it
        self.first_look = first_look  # after as many calls of `add`: a look is not free
        self.restart()

    def restart(self) -> None:
        """It came further."""
        self.counted = 0.0  # seconds that count
        self.still = 0.0  # all seconds
        self.num_added = 0
        self.look: Look | None = None
        self.found = Conduct()

    def add(self, elapsed: float, report: Report, is_cut_off: bool = False) -> None:
        """It stood still for `elapsed` more seconds, and its last report is this one."""
        before, self.look = self.look, self.seen()
        self.num_added += 1
        self.found = conduct.between(before, self.look, elapsed)
        self.still += elapsed
        starved = min(self.found.starved_seconds, elapsed)
        self.counted += (elapsed - starved) * weight(report, self.found, is_cut_off)

    def seen(self) -> Look | None:
        if self.pid is None or self.num_added < self.first_look:
            return None
        return conduct.look(self.pid)


class OwnReport:
    """The report of this rank, brought up to date by the heartbeat thread."""

    def __init__(self, activity: Activity, pid: int) -> None:
        self.activity = activity
        self.clock = Clock(pid, FIRST_LOOK)
        self.progress = activity.progress
        self.report = Report()

    def update(self, elapsed: float) -> Report:
        """Look at the main thread again, `elapsed` seconds after the last time."""
        doing = self.activity
        seen = Report(
            doing.step, doing.begun, doing.collectives, doing.phases, doing.operation,
            doing.is_settled, doing.p99_seconds,
        )  # fmt: skip
        if doing.progress != self.progress:
            self.progress = doing.progress
            self.clock.restart()
        else:
            self.clock.add(elapsed, seen)
        self.report = seen.standing(self.clock.still, self.clock.counted)
        return self.report
