"""The side of rank 0: hears all ranks, judges them, tells the verdict to all."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from runtime.watchdog import conduct, verdict
from runtime.watchdog.channel import Channel, farewell
from runtime.watchdog.conduct import Conduct
from runtime.watchdog.report import Member, Report
from runtime.watchdog.setting import QUIET_BEATS, Breakage, Departure, Failure, Setting
from runtime.watchdog.verdict import PATIENCE, Verdict

FAREWELL_SECONDS = 1.0


class Peer:
    """What rank 0 knows of another rank."""

    def __init__(self, member: Member, channel: Channel, setting: Setting) -> None:
        self.member = member
        self.channel = channel
        self.setting = setting
        self.report = Report()
        self.quiet = 0.0  # seconds since it was heard
        self.silence = setting.clock_of(member)
        self.seen_nearby: tuple[float, Conduct] | None = None  # seconds that count; by a neighbour
        self.is_gone = False  # the process ended without a word
        self.departure: Departure | None = None

    @property
    def is_watched(self) -> bool:
        return self.departure is None

    @property
    def is_silent(self) -> bool:
        return self.quiet > QUIET_BEATS * self.setting.interval

    def heard(self) -> None:
        self.quiet = 0.0
        self.silence.restart()
        self.seen_nearby = None

    def add(self, elapsed: float) -> None:
        """Seconds have passed."""
        self.quiet += elapsed
        if self.departure is not None:
            self.departure.age += elapsed
        elif self.is_silent:
            # At first all the time since it was heard.
            seconds = elapsed if self.silence.still else self.quiet
            self.silence.add(seconds, self.report, self.channel.is_unacknowledged())
            if self.setting.is_near(self.member):
                self.is_gone |= conduct.began(self.member.pid) != self.member.began

    @property
    def judged(self) -> tuple[float, Conduct]:
        """The seconds of silence that count, and what the process does; whoever sees it better."""
        return self.seen_nearby or (self.silence.counted, self.silence.found)


class Coordinator:
    """Lives in the heartbeat thread of rank 0; also of a run with one rank."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.peers: dict[int, Peer] = {}
        self.breakage = Breakage()

    def join(self, rank: int, channel: Channel) -> Peer:
        """A rank has connected. Raises ValueError if it has before, or is unknown."""
        if rank in self.peers or not 0 < rank < len(self.setting.members):
            raise ValueError(f"rank {rank} is not expected")
        self.peers[rank] = Peer(self.setting.members[rank], channel, self.setting)
        return self.peers[rank]

    @property
    def is_complete(self) -> bool:
        """True once every rank has connected."""
        return len(self.peers) == len(self.setting.members) - 1

    def receive(self, peer: Peer, before: Sequence[dict[str, Any]] = ()) -> None:
        """Something has come from a rank (after messages read `before`), or its connection was
        closed."""
        try:
            for message in [*before, *peer.channel.receive()]:
                self.take(peer, message)
        except (ValueError, TypeError, KeyError, AttributeError):
            peer.channel.close()  # not one of ours
            peer.departure = peer.departure or Departure(None)
        if not peer.channel.is_open and peer.is_watched:
            peer.is_gone = True
            self.judge()

    def take(self, peer: Peer, message: dict[str, Any]) -> None:
        peer.heard()
        if "beat" in message:
            peer.report = Report.of_json(message["beat"])
            for rank, found in message["about"].items():
                counted, is_gone, seen = found
                about = self.peers[int(rank)]
                about.seen_nearby = (float(counted), Conduct(**seen))
                about.is_gone |= is_gone
        elif "bye" in message:
            peer.departure = Departure(Failure.of_json(message["bye"]))
            peer.channel.close()
        elif "broken" in message:
            self.breakage.note(peer.member, message["broken"])
            self.judge()

    def broke(self, message: str) -> None:
        """A collective broke in this rank."""
        self.breakage.note(self.setting.me, message)
        self.judge()

    def tick(self, elapsed: float) -> None:
        """`elapsed` seconds have passed since the last time."""
        self.setting.own.update(elapsed)
        self.breakage.add(elapsed)
        for peer in self.peers.values():
            peer.add(elapsed)
        self.judge()
        watched = [peer for peer in self.peers.values() if peer.is_watched]
        # Each machine's own: all of them to all ranks would grow with the square of their number.
        silent: dict[str, dict[int, Any]] = {}
        for peer in watched:
            if peer.is_silent:
                of_machine = silent.setdefault(peer.member.machine, {})
                of_machine[peer.member.rank] = [peer.quiet, peer.report.as_json()]
        beat = self.setting.own.report.as_json()
        for peer in watched:
            if not peer.channel.unsent:
                peer.channel.send({"beat": beat, "silent": silent.get(peer.member.machine, {})})

    def judge(self) -> None:
        found = self.verdict()
        if found is not None:
            self.pass_on(found)

    def verdict(self) -> Verdict | None:
        """The verdict there is now, the surest first."""
        setting = self.setting
        watched = [peer for peer in self.peers.values() if peer.is_watched]
        reports = {setting.me.rank: setting.own.report}
        reports |= {peer.member.rank: peer.report for peer in watched}
        limit = setting.limit(*reports.values())
        for peer in watched:
            if peer.is_gone:
                return Verdict(verdict.lost(peer.member, peer.report))
        for peer in self.peers.values():
            if peer.departure and (found := peer.departure.cause(peer.member, self.breakage)):
                return found
        for peer in watched:
            counted, seen = peer.judged
            if counted >= PATIENCE * limit:
                is_unacknowledged = peer.channel.is_unacknowledged()
                words = verdict.silent(peer.member, peer.report, seen, is_unacknowledged, limit)
                return Verdict(words, silent=[p.member.rank for p in watched if p.is_silent])
        if self.breakage.is_unexplained:
            return Verdict(self.breakage.cause or "")
        if self.breakage.cause is None and not any(peer.is_silent for peer in watched):
            words_of_hung = verdict.hung(setting.members, reports, limit)
            return None if words_of_hung is None else Verdict(words_of_hung)
        return None

    def pass_on(self, found: Verdict) -> None:
        """Tell all ranks, then end this one."""
        watched = [peer for peer in self.peers.values() if peer.is_watched and not peer.is_gone]
        alive = [peer.member.rank for peer in watched if peer.member.rank not in found.silent]
        found = replace(found, alive=[self.setting.me.rank, *alive])
        for peer in watched:
            peer.channel.deliver({"verdict": found.as_json()}, FAREWELL_SECONDS)
        self.setting.end(found)

    def leave(self, failure: Failure | None) -> None:
        """Say goodbye to all ranks and close every connection."""
        channels = [peer.channel for peer in self.peers.values() if peer.is_watched]
        for channel in channels:
            with suppress(OSError):
                channel.deliver({"bye": failure and asdict(failure)}, FAREWELL_SECONDS)
        farewell(channels, FAREWELL_SECONDS)
