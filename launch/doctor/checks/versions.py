"""Python and every package that can change a result are the same everywhere, and as required."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

from launch.doctor.finding import Finding, fault, odd_ones
from launch.doctor.plan import Asked, Plan

ABSENT = "not installed"
OWN = "textmill"


@dataclass(frozen=True)
class Seen:
    versions: dict[str, str]  # by package, Python included
    unmet: dict[str, str]  # requirements of Textmill and what is there instead


def look(asked: Asked) -> Seen:
    needed = requirements()
    found = {requirement.name: version_of(requirement.name) for requirement in needed}
    unmet = {
        str(requirement): found[requirement.name]
        for requirement in needed
        if found[requirement.name] == ABSENT
        or not requirement.specifier.contains(found[requirement.name], prereleases=True)
    }
    return Seen({"python": platform.python_version(), **found}, unmet)


def requirements() -> list[Requirement]:
    """What Textmill needs wherever it runs, extras left out."""
    try:
        found = [Requirement(text) for text in metadata.requires(OWN) or ()]
    except metadata.PackageNotFoundError:  # run from its folder, not installed
        return []
    kept = (one for one in found if one.marker is None or one.marker.evaluate({"extra": ""}))
    return sorted(kept, key=lambda one: one.name)


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    reported: set[tuple[str, str]] = set()
    for package in sorted({name for found in seen.values() for name in found.versions}):
        usual, odd = odd_ones(
            {host: found.versions.get(package, ABSENT) for host, found in seen.items()}
        )
        for host, version in odd.items():
            reported.add((host, package))
            yield fault(
                host,
                f"{package} is {version}, elsewhere {usual}",
                other_python(plan, usual)
                if package == "python"
                else f"`{plan.python} -m pip install {package}=={usual}` on it",
            )
    for host, found in seen.items():
        for requirement, version in found.unmet.items():
            if (host, Requirement(requirement).name) not in reported:
                yield fault(
                    host,
                    f"Textmill needs {requirement}, there is {version}",
                    f"`{plan.python} -m pip install '{requirement}'` on it",
                )


def other_python(plan: Plan, version: str) -> str:
    return f"make its environment at {plan.python} anew with Python {version}"
