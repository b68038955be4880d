"""What the doctor prints: a line for each finding, then one that sums up; or JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from launch.doctor.examination import Examination

STYLE = {"fault": "bold red", "warning": "yellow"}


def lines(found: Examination) -> Iterator[str]:
    """In rich's markup, faults first."""
    for finding in sorted(found.findings, key=lambda finding: finding.level != "fault"):
        style = STYLE[finding.level]
        yield (
            f"[{style}]{finding.level:7}[/]  {escape(finding.where)}  "
            f"{finding.check}: {escape(finding.what)}; [bold]fix:[/] {escape(finding.fix)}"
        )
    names = {finding.check for finding in found.findings}
    fine = [name for name in found.checks if name not in names]
    if fine:
        yield f"[green]{'ok':7}[/]  {', '.join(fine)}"
    if found.postponed:
        yield f"{'later':7}  {', '.join(found.postponed)}: once the faults are put right"
    faults, hosts = len(found.faults), len(found.plan.hosts)
    reached = f"{found.num_reached} of " if found.num_reached < hosts else ""
    yield (
        f"{counted(len(found.checks), 'check')} on {reached}{counted(hosts, 'host')} in "
        f"{found.seconds:.1f} s: {counted(faults, 'fault')}, "
        f"{counted(len(found.findings) - faults, 'warning')}"
    )


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def show(found: Examination) -> None:
    """Print for people."""
    console = Console(highlight=False)
    for line in lines(found):
        console.print(line, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show in a terminal, while the block runs, which check is at work."""
    with Console(stderr=True).status("looking") as status:
        yield lambda name: status.update(f"looking: {name}")


def as_json(found: Examination) -> str:
    """For programs: every finding with `level`, `check`, `where`, `what` and `fix`."""
    value = {
        "hosts": [host.name for host in found.plan.hosts],
        "reached": found.num_reached,
        "checks": list(found.checks),
        "postponed": list(found.postponed),
        "faults": len(found.faults),
        "findings": [vars(finding) for finding in found.findings],
        "seconds": round(found.seconds, 3),
    }
    return json.dumps(value, indent=2, ensure_ascii=False)
