"""Why a run has ended: the failure that came first, and the exit code for all."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from launch.hosts import last_words
from runtime.errors import DONE, RESUME_ME, LostRankError

GOOD = (DONE, RESUME_ME)


@dataclass(frozen=True)
class End:
    """The end of one rank."""

    rank: int
    host: str
    code: int  # negative: the signal that ended it
    at: float  # seconds on the driver's clock
    lines: Sequence[str] = ()  # the last ones of its output

    @property
    def is_failure(self) -> bool:
        return self.code not in GOOD


@dataclass(frozen=True)
class Loss:
    """An agent that was lost with ranks that had not ended."""

    host: str
    ranks: Sequence[int]
    at: float
    how: str


@dataclass(frozen=True)
class Verdict:
    """How the run is to end."""

    exit_code: int
    cause: str | None = None  # one line
    rank: int | None = None  # which failed first


def verdict(ends: Sequence[End], losses: Sequence[Loss]) -> Verdict:
    """The first failure decides; ends that follow from it do not."""
    failures: list[End | Loss] = [end for end in ends if end.is_failure]
    failures += losses
    if not failures:
        saved = any(end.code == RESUME_ME for end in ends)
        return Verdict(RESUME_ME if saved else DONE)
    first = min(failures, key=lambda failure: failure.at)
    if isinstance(first, Loss):
        code, rank = LostRankError.exit_code, None
        cause = f"{numbered(first.ranks)} on {first.host} cannot be followed any more: {first.how}"
    else:
        code, rank = first.code, first.rank
        how = f"exit code {code}" if code > 0 else signal_name(-code)
        cause = f"rank {rank} on {first.host} ended with {how}"
        words = last_words.said(first.lines) if code > 0 else told_by_others(first, ends)
        cause += f": {words}" if words else ""
    return Verdict(code, f"textmill: {cause}", rank)


def told_by_others(killed: End, ends: Sequence[End]) -> str | None:
    """What the watchdog of another rank said of one that was killed."""
    beginning = f"{last_words.OURS}rank {killed.rank} on "
    told = (line for end in ends for line in end.lines if line.startswith(beginning))
    return next((line.removeprefix(last_words.OURS) for line in told), None)


def numbered(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {ranks[0]} to {ranks[-1]}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of real time
        return f"signal {number}"
