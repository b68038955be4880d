"""What the end of a program's output says about its end."""

from collections.abc import Iterable

from launch.hosts.noise import is_noise

OURS = "textmill: "


def said(lines: Iterable[str]) -> str | None:
    """The last line that is an error of ours, else the last line of ours, else the last line at
    all; None: it said nothing."""
    found = [line.strip() for line in lines if not is_noise(line)]
    ours = [line for line in found if line.startswith(OURS)]
    errors = [line for line in ours if "Error: " in line]
    return (errors or ours or found or [""])[-1].removeprefix(OURS) or None
