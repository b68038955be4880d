"""The hosts' clocks agree: times of files, logs and locks are compared between hosts.

As NTP does it: the middle of question and answer is when the other clock was read, so the error is
at most half of what the answer took; of several answers the quickest counts.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from launch.doctor.finding import Finding, fault
from launch.doctor.party import Party
from launch.doctor.plan import Asked, Plan

LIMIT_SECONDS = 2.0
ROUNDS = 3


def applies(plan: Plan) -> bool:
    return plan.is_many


@dataclass(frozen=True)
class Seen:
    offset: float  # seconds by which its clock is ahead of the doctor's
    error: float  # at most, seconds


def gather(party: Party, plan: Plan) -> Mapping[str, Seen]:
    """One host after the other, so that none waits for the others' answers."""
    return {
        host: min((measured(party, host) for _ in range(ROUNDS)), key=lambda seen: seen.error)
        for host in party.hosts
    }


def measured(party: Party, host: str) -> Seen:
    asked = time.time()
    answer = party.ask("clock", "look", {host: {}})
    taken = time.time() - asked
    if host not in answer:
        return Seen(0.0, float("inf"))
    return Seen(answer[host] - (asked + taken / 2), taken / 2)


def look(asked: Asked) -> float:
    """Unix seconds."""
    return time.time()


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    offsets = [found.offset for found in seen.values()]
    usual = median(offsets) if len(offsets) > 2 else offsets[0]
    for host, found in seen.items():
        away = found.offset - usual
        if abs(away) - found.error > LIMIT_SECONDS:
            yield fault(
                host,
                f"its clock is {abs(away):.1f} s {'ahead of' if away > 0 else 'behind'} the others",
                "`systemctl enable --now chrony && chronyc makestep` on it",
            )
