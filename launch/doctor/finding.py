"""What the doctor finds: one line that says what is wrong, where, and how to put it right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """A fault ends or spoils a run; a warning may."""

    level: Literal["fault", "warning"]
    where: str  # host, "host -> host", or what is not a host
    what: str  # with the value that was seen
    fix: str  # for the imperative mood: a command where there is one
    check: str = ""  # set by the examination


def fault(where: str, what: str, fix: str) -> Finding:
    return Finding("fault", where, what, fix)


def warning(where: str, what: str, fix: str) -> Finding:
    return Finding("warning", where, what, fix)


def odd_ones(values: Mapping[str, T]) -> tuple[T, dict[str, T]]:
    """The value most hosts have (of several equally frequent ones the first host's), and the hosts
    that have another."""
    found = list(values.values())
    usual = max(found, key=found.count)
    return usual, {host: value for host, value in values.items() if value != usual}
