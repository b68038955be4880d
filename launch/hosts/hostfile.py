"""The hostfile: machines and how many ranks each of them runs, in DeepSpeed's own form.

One machine a line, `NAME slots=N`; `#` begins a comment, also behind an entry. A name holds
letters, digits, dots and hyphens and begins with a letter or a digit, so that it can never be taken
for an option of ssh; an address is IPv4. The first machine holds rank 0. What DeepSpeed would
understand in another way, or would pass on unseen, is refused, with the numbers of all such lines.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import RecipeError

LONGEST_NAME = 253  # characters, of any name in DNS
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
SLOTS = re.compile(r"slots=([1-9][0-9]{0,5})")
THIS_MACHINE = ("localhost", "127.")  # what each machine calls itself


@dataclass(frozen=True)
class Host:
    """A line of a hostfile."""

    name: str
    slots: int  # ranks, usually one a GPU


def read(path: Path) -> tuple[Host, ...]:
    """The hosts in their order. Raises RecipeError with every line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"cannot read the hostfile {path}: {error.strerror} (see hostfile.example)"
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"the hostfile {path} is not UTF-8: {error}") from None
    hosts: list[Host] = []
    problems = list(parse(text, hosts))
    if not hosts and not problems:
        problems.append("it names no host")
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        rows = "\n".join(f"  {problem}" for problem in problems)
        raise RecipeError(f"{count} in the hostfile {path} (see hostfile.example)\n{rows}")
    return tuple(hosts)


def parse(text: str, hosts: list[Host]) -> Iterator[str]:
    """Add the hosts of a text to `hosts`; yields what is wrong."""
    lines: dict[str, int] = {}  # by name, as DNS compares names
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        problem = fault(words)
        if problem is None:
            name, slots = words[0], int(words[1].partition("=")[2])
            before = lines.setdefault(name.lower(), number)
            if before == number:
                hosts.append(Host(name, slots))
                continue
            problem = f"names {name} again, which is on line {before}; add up its slots there"
        yield f"line {number} {problem}: {line.strip()!a}"
    if len(hosts) > 1:
        yield from (
            f"line {lines[host.name.lower()]} names {host.name}, which is another machine on every "
            "host; write the name by which the others reach it"
            for host in hosts
            if host.name.lower().startswith(THIS_MACHINE)
        )


def fault(words: Sequence[str]) -> str | None:
    """What is wrong with the words of a line, if anything is."""
    if len(words) != 2 or not words[1].startswith("slots="):
        return "is no `NAME slots=N`"
    name, slots = words
    if "@" in name:
        return "names a user; write that into ~/.ssh/config (`Host`, `User`)"
    if NAME.fullmatch(name) is None or len(name) > LONGEST_NAME:
        return (
            "is no `NAME slots=N`: a name has letters, digits, dots and hyphens and begins with a "
            "letter or a digit"
        )
    if re.fullmatch(r"[0-9.]+", name) and not is_address(name):
        return "begins with what is no IPv4 address"
    if SLOTS.fullmatch(slots) is None:
        return "is no `NAME slots=N`: N is a number from 1"
    return None


def is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
