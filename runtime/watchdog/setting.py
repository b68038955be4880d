"""What both sides of the watchdog, rank 0 and the others, are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from runtime.config import Watchdog
from runtime.watchdog import verdict
from runtime.watchdog.report import Member, Report
from runtime.watchdog.stall import Clock, OwnReport
from runtime.watchdog.verdict import Verdict

QUIET_BEATS = 3  # without a beat, after which a rank is looked at
GRACE_SECONDS = 10.0  # for the others to notice by themselves that a rank ended with an error
BROKEN_SECONDS = 5.0  # to find out why a collective broke


@dataclass(frozen=True)
class Failure:
    """The error a rank ended with."""

    name: str
    message: str
    exit_code: int

    @classmethod
    def of_json(cls, found: Any) -> Self | None:
        return None if found is None else cls(**found)


@dataclass(frozen=True)
class Setting:
    """One rank's place in the run."""

    table: Watchdog
    members: list[Member]  # of all ranks, in rank order
    me: Member
    interval: float  # seconds between beats
    own: OwnReport
    end: Callable[[Verdict], None]  # does not return; tests let it

    def is_near(self, member: Member) -> bool:
        """True if this rank can look at that one's process."""
        return member.machine == self.me.machine

    def clock_of(self, member: Member) -> Clock:
        """Of a rank that may fall silent."""
        return Clock(member.pid if self.is_near(member) else None)

    def limit(self, *reports: Report) -> float:
        return verdict.limit_seconds(self.table.min_seconds, self.table.p99_factor, reports)


class Breakage:
    """A collective that broke in this rank or another, and the time since."""

    def __init__(self) -> None:
        self.cause: str | None = None
        self.age = 0.0

    def note(self, member: Member, message: str) -> None:
        self.cause = self.cause or verdict.broken(member, message)

    def add(self, elapsed: float) -> None:
        if self.cause is not None:
            self.age += elapsed

    @property
    def is_unexplained(self) -> bool:
        """True if nothing else was found that would explain it, for long enough."""
        return self.age >= BROKEN_SECONDS


class Departure:
    """How a rank left, and the time since."""

    def __init__(self, failure: Failure | None) -> None:
        self.failure = failure
        self.age = 0.0

    def cause(self, member: Member, breakage: Breakage) -> Verdict | None:
        """The verdict if it left with an error of its own that the others only feel."""
        failure = self.failure
        if failure is None or (self.age < GRACE_SECONDS and breakage.cause is None):
            return None
        words = verdict.failed(member, failure.name, failure.message)
        return Verdict(words, failure.exit_code)
