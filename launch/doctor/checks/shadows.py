"""Every module comes from where it was installed: PYTHONPATH, or a file in the working folder, may
put another in its place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from launch.doctor.finding import Finding, fault
from launch.doctor.plan import Asked, Plan

OURS = ("runtime", "data_prep", "pretrain", "finetune", "launch", "ds_configs")
THEIRS = ("torch", "deepspeed", "transformers", "tokenizers", "datasets", "numpy", "pydantic")


@dataclass(frozen=True)
class Seen:
    shadows: dict[str, str]  # by module: the file that is imported in its place


def look(asked: Asked) -> Seen:
    home = origin("launch")
    found = {}
    for name in OURS:
        place = origin(name)
        if place is not None and home is not None and place.parent != home.parent:
            found[name] = str(place)
    for name in THEIRS:
        place, wanted = origin(name), installed(name)
        if place is not None and wanted is not None and place != wanted:
            found[name] = str(place)
    return Seen(found)


def origin(name: str) -> Path | None:
    """Folder of the package, or the file of a module, that an import finds."""
    spec = PathFinder.find_spec(name)
    if spec is None:
        return None
    place = Path(spec.origin) if spec.origin is not None else None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return None if place is None else place.resolve()


def installed(name: str) -> Path | None:
    """Where the distribution of that name has put its package."""
    try:
        folder = Path(str(metadata.distribution(name).locate_file(name))).resolve()
    except metadata.PackageNotFoundError:
        return None
    return folder if folder.is_dir() else None


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    for host, found in seen.items():
        for module, place in found.shadows.items():
            yield fault(
                host,
                f"`import {module}` finds {place}, which is not the installed one",
                "rename it, or take its folder out of PYTHONPATH (unset PYTHONPATH in ~/.bashrc "
                f"and in {plan.variables})",
            )
