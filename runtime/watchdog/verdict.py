"""Who is to blame, from what all ranks say of themselves: pure functions, and the cause in words.

Ranks that wait in a collective are behind nobody; the one they wait for has entered fewer. If all
have entered the same ones and wait, the network between them does not deliver.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from runtime.errors import LostRankError
from runtime.watchdog.conduct import Conduct
from runtime.watchdog.report import Member, Report

# Of the limit, after which the verdict is passed: the rest is for stacks and the end of the ranks.
PATIENCE = 0.75
OTHERS_WAIT = 0.2  # of the limit, for which every other rank must have stood still as well


@dataclass(frozen=True)
class Verdict:
    """Why a run ends."""

    cause: str
    exit_code: int = LostRankError.exit_code
    alive: list[int] = field(default_factory=list)  # ranks that can act
    silent: list[int] = field(default_factory=list)  # that cannot, but whose processes are there

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> Self:
        return cls(**found)


def limit_seconds(min_seconds: float, p99_factor: float, reports: Iterable[Report]) -> float:
    """Seconds within which a run ends that has lost a rank."""
    slowest = max((report.p99_seconds for report in reports), default=0.0)
    return max(min_seconds, p99_factor * slowest)


def hung(members: Sequence[Member], reports: Mapping[int, Report], limit: float) -> str | None:
    """The cause if nobody comes further; `reports` are those of the ranks that are watched."""
    if not reports or any(report.still < OTHERS_WAIT * limit for report in reports.values()):
        return None
    least = min(report.order for report in reports.values())
    behind = [rank for rank, report in reports.items() if report.order == least]
    blamed = [rank for rank in behind if not reports[rank].is_communicating] or behind
    if any(reports[rank].counted < PATIENCE * limit for rank in blamed):
        return None
    seconds = f"no progress for {PATIENCE * limit:.0f} s"
    if not reports[blamed[0]].is_communicating:
        named = "; ".join(f"{members[rank]} hangs in {reports[rank].where}" for rank in blamed)
        waiting = len(reports) - len(blamed)
        others = f", while {counted(waiting, 'other rank')} wait" if waiting else ""
        return f"{named}: {seconds}{others}{'s' if waiting == 1 else ''}"
    if len(behind) < len(reports):
        named = " and ".join(str(members[rank]) for rank in behind)
        return (
            f"{named}: {seconds} in {reports[behind[0]].where}, which the other ranks have left; "
            "the network does not deliver"
        )
    where = {report.where for report in reports.values()}
    if len(where) == 1:
        return (
            f"all {len(reports)} ranks wait in {where.pop()}: {seconds}; the network between them "
            "does not deliver"
        )
    named = "; ".join(f"rank {rank} in {report.where}" for rank, report in reports.items())
    return f"ranks wait for each other in different places: {named}: {seconds}"


def counted(number: int, name: str) -> str:
    return f"{number} {name}" + ("s" if number != 1 else "")


def lost(member: Member, report: Report) -> str:
    """The cause if a rank's process ended without a word."""
    return (
        f"{member} is gone: its process ended without a word (killed? out of memory?), last seen "
        f"in {report.where}"
    )


def silent(
    member: Member, report: Report, found: Conduct, is_unacknowledged: bool, limit: float
) -> str:
    """The cause if a rank is not heard of although its connection stands."""
    seconds = f"no heartbeat for {PATIENCE * limit:.0f} s, last seen in {report.where}"
    if found.is_stopped:
        return f"{member} has stopped, by a signal or a debugger: {seconds}"
    if found.is_known:
        what = "computes" if found.is_working else "waits"
        return f"{member} is stuck in native code that holds the interpreter and {what}: {seconds}"
    if is_unacknowledged:
        return f"{member} cannot be reached, its machine or the link to it is down: {seconds}"
    return f"{member} has stopped or holds the interpreter: {seconds}"


def failed(member: Member, name: str, message: str) -> str:
    """The cause if a rank ended with an error that the others do not share."""
    return f"{member} ended with {name}: {message}"


def broken(member: Member, message: str) -> str:
    """The cause if a collective broke and nobody knows why."""
    return f"communication broke on {member}: {message}"
