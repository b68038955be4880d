"""Ranks run as the same user everywhere: a shared file system knows numbers, not names."""

import getpass
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.doctor.finding import Finding, fault, odd_ones
from launch.doctor.plan import Asked, Plan


def applies(plan: Plan) -> bool:
    return plan.is_many


@dataclass(frozen=True)
class Seen:
    name: str
    uid: int
    gid: int


def look(asked: Asked) -> Seen:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        name = str(os.getuid())
    return Seen(name, os.getuid(), os.getgid())


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    usual, odd = odd_ones({host: (found.uid, found.gid) for host, found in seen.items()})
    for host, (uid, gid) in odd.items():
        yield fault(
            host,
            f"{seen[host].name} has user and group id {uid}:{gid}, elsewhere {usual[0]}:{usual[1]}",
            f"`usermod -u {usual[0]} -g {usual[1]} {seen[host].name}` on it, or set another `User` "
            "in ~/.ssh/config",
        )
