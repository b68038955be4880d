"""The side of every other rank: reports to rank 0, looks after silent neighbours, judges rank 0.

When rank 0 has left in peace, a rank still watches itself.
"""

from dataclasses import asdict
from typing import Any

from runtime.watchdog import conduct, verdict
from runtime.watchdog.channel import Channel, farewell
from runtime.watchdog.coordinator import FAREWELL_SECONDS
from runtime.watchdog.report import Report
from runtime.watchdog.setting import QUIET_BEATS, Breakage, Departure, Failure, Setting
from runtime.watchdog.stall import Clock
from runtime.watchdog.verdict import PATIENCE, Verdict


class Follower:
    """Lives in the heartbeat thread of a rank beside rank 0."""

    def __init__(self, setting: Setting, channel: Channel) -> None:
        self.setting = setting
        self.channel = channel
        self.first = setting.members[0]
        self.report = Report()  # rank 0's
        self.quiet = 0.0  # seconds since rank 0 was heard
        self.silence = setting.clock_of(self.first)
        self.departure: Departure | None = None  # of rank 0
        self.breakage = Breakage()
        # Ranks of this machine that rank 0 does not hear: for how many seconds, their last reports.
        self.silent: dict[int, tuple[float, Report]] = {}
        self.neighbours: dict[int, Clock] = {}  # those of them beside this one

    def receive(self) -> None:
        """Something has come from rank 0, or it closed the connection."""
        is_ours = True
        try:
            for message in self.channel.receive():
                self.take(message)
        except (ValueError, TypeError, KeyError, AttributeError):
            is_ours = False
        if (not self.channel.is_open or not is_ours) and self.departure is None:
            self.pass_on(Verdict(verdict.lost(self.first, self.report)))

    def take(self, message: dict[str, Any]) -> None:
        self.quiet = 0.0
        self.silence.restart()
        if "verdict" in message:
            self.setting.end(Verdict.of_json(message["verdict"]))
        elif "beat" in message:
            self.report = Report.of_json(message["beat"])
            self.silent = {
                int(rank): (float(quiet), Report.of_json(report))
                for rank, (quiet, report) in message["silent"].items()
            }
            members = self.setting.members
            self.neighbours = {
                rank: self.neighbours.get(rank) or self.setting.clock_of(members[rank])
                for rank in self.silent
                if rank != self.setting.me.rank and self.setting.is_near(members[rank])
            }
        elif "bye" in message:
            self.departure = Departure(Failure.of_json(message["bye"]))
            self.channel.close()

    def broke(self, message: str) -> None:
        """A collective broke in this rank."""
        self.breakage.note(self.setting.me, message)
        if self.departure is None:
            self.channel.send({"broken": message})
        self.judge()

    def tick(self, elapsed: float) -> None:
        """`elapsed` seconds have passed since the last time."""
        report = self.setting.own.update(elapsed)
        self.breakage.add(elapsed)
        if self.departure is not None:
            self.departure.age += elapsed
        else:
            self.quiet += elapsed
            if self.quiet > QUIET_BEATS * self.setting.interval:
                # At first all the time since it was heard.
                seconds = elapsed if self.silence.still else self.quiet
                self.silence.add(seconds, self.report, self.channel.is_unacknowledged())
            for rank, clock in self.neighbours.items():
                quiet, last = self.silent[rank]
                clock.add(elapsed if clock.still else quiet, last)
        self.judge()
        if self.departure is None and not self.channel.unsent:
            self.channel.send({"beat": report.as_json(), "about": self.about_neighbours()})
        else:
            self.channel.flush()

    def about_neighbours(self) -> dict[int, Any]:
        """Of each silent rank on this machine: seconds that count, whether it is gone, what it
        does."""
        members = self.setting.members
        return {
            rank: (
                clock.counted,
                conduct.began(members[rank].pid) != members[rank].began,
                asdict(clock.found),
            )
            for rank, clock in self.neighbours.items()
        }

    def judge(self) -> None:
        found = self.verdict()
        if found is not None:
            self.pass_on(found)

    def verdict(self) -> Verdict | None:
        """On rank 0; on this rank itself when that has left."""
        setting, own = self.setting, self.setting.own.report
        limit = setting.limit(own, self.report)
        if self.departure is not None:
            found = self.departure.cause(self.first, self.breakage)
            words = None
            if found is None and self.breakage.cause is None:
                words = verdict.hung(setting.members, {setting.me.rank: own}, limit)
            return found if words is None else Verdict(words)
        if self.silence.counted >= PATIENCE * limit:
            words = verdict.silent(
                self.first, self.report, self.silence.found, self.channel.is_unacknowledged(), limit
            )
            return Verdict(words, silent=[0, *self.silent])
        return Verdict(self.breakage.cause or "") if self.breakage.is_unexplained else None

    def pass_on(self, found: Verdict) -> None:
        """End this rank; each of the others comes to the same verdict."""
        alive = [m.rank for m in self.setting.members if m.rank not in (0, *self.silent)]
        self.setting.end(Verdict(found.cause, found.exit_code, alive, found.silent))

    def leave(self, failure: Failure | None) -> None:
        """Say goodbye to rank 0 and close the connection."""
        if self.departure is None:
            self.channel.deliver({"bye": failure and asdict(failure)}, FAREWELL_SECONDS)
            farewell([self.channel], FAREWELL_SECONDS)
