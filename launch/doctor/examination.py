"""Runs the checks one after the other, each on all hosts at once."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from launch.doctor import opening, party
from launch.doctor.conversation import Late
from launch.doctor.finding import Finding, fault, warning
from launch.doctor.party import Party
from launch.doctor.plan import Plan
from launch.doctor.probe import CHECKS
from runtime.errors import RecipeError

FIRST = ("slurm", "recipe", "reach")  # what the others stand on
SHOWN = 4  # hosts named in one line
LAST = ("bandwidth",)  # takes longest


@dataclass(frozen=True)
class Examination:
    """What came out."""

    plan: Plan
    checks: tuple[str, ...]  # that ran
    findings: tuple[Finding, ...]
    seconds: float
    num_reached: int  # hosts that were looked at
    postponed: tuple[str, ...] = ()  # checks that a fault makes pointless

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "fault"]


def order() -> list[str]:
    """Every check, in the order in which they run."""
    folder = Path(str(import_module(CHECKS).__file__)).parent
    found = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return [*FIRST, *sorted(found - {*FIRST, *LAST}), *LAST]


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """The checks to run. Raises RecipeError for a name that is none."""
    known = order()
    unknown = [name for name in (*only, *skip) if name not in known]
    if unknown:
        raise RecipeError(f"no check is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if (name in only or not only) and name not in skip]


def examine(
    plan: Plan, names: Sequence[str], told: Callable[[str], None] = lambda name: None
) -> Examination:
    """Run the checks; `told` hears the name of each before it runs."""
    began = time.monotonic()
    modules = {name: import_module(f"{CHECKS}.{name}") for name in names}
    findings: list[Finding] = []
    with party.opened(plan, opening.commands(plan)) as hosts:
        ran, postponed = [], []
        for name, module in modules.items():
            if not applies(module, plan):
                continue
            if is_blocked(module, findings):
                postponed.append(name)
                continue
            told(name)
            findings += merged(named(name, findings_of(name, module, hosts, plan)))
            ran.append(name)
        reached = len(hosts.hosts)
    seconds = time.monotonic() - began
    return Examination(plan, tuple(ran), tuple(findings), seconds, reached, tuple(postponed))


def applies(module: ModuleType, plan: Plan) -> bool:
    return not hasattr(module, "applies") or bool(module.applies(plan))


def is_blocked(module: ModuleType, findings: Sequence[Finding]) -> bool:
    """True after a fault that this check would only feel, and wait for."""
    after = getattr(module, "AFTER", ())
    return any(finding.level == "fault" and finding.check in after for finding in findings)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for all hosts that have the same."""
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        places.setdefault(replace(finding, where=""), []).append(finding.where)
    return [
        replace(finding, where=where[0] if len(where) == 1 else in_words(where))
        for finding, where in places.items()
    ]


def in_words(hosts: Sequence[str]) -> str:
    rest = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
    return ", ".join(hosts[:SHOWN]) + rest


def named(name: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    return (replace(finding, check=name) for finding in findings)


def findings_of(name: str, module: ModuleType, hosts: Party, plan: Plan) -> Iterator[Finding]:
    """All that one check finds."""
    if hasattr(module, "examine"):
        yield from module.examine(plan)
        return
    hosts.silent.clear()
    seen = gathered(name, module, hosts, plan)
    if seen:
        yield from module.judge(seen, plan)
    for host, reason in hosts.silent.items():
        if isinstance(reason, Late):
            yield fault(
                host,
                f"`{name}` got {reason}: does a file system or a device hang?",
                "look for processes in state D (`ps -eo pid,stat,wchan:30,cmd`) and for hung "
                "mounts (`dmesg | tail`) there",
            )
        else:
            yield warning(
                host,
                f"`{name}` could not look: {reason}",
                f"put that right, or leave the check out with `--skip {name}`",
            )


def gathered(name: str, module: ModuleType, hosts: Party, plan: Plan) -> Mapping[str, Any]:
    """What the hosts have seen, by host."""
    if hasattr(module, "gather"):
        found: Mapping[str, Any] = module.gather(hosts, plan)
        return found
    seconds = getattr(module, "SECONDS", party.SECONDS)
    answers = hosts.ask(name, "look", seconds=seconds)
    return {host: module.Seen(**answer) for host, answer in answers.items()}
