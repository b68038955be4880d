"""Every host runs the same Textmill: of two checkouts one is often older."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from launch.doctor.finding import Finding, fault, odd_ones
from launch.doctor.plan import Asked, Plan
from runtime import provenance

PACKAGES = ("runtime", "data_prep", "pretrain", "finetune", "launch", "ds_configs")
SUFFIXES = {".py", ".json", ".jinja"}


@dataclass(frozen=True)
class Seen:
    fingerprint: str
    folder: str
    commit: str | None


def look(asked: Asked) -> Seen:
    folders = [folder for folder in map(folder_of, PACKAGES) if folder is not None]
    files = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    ]
    content = [
        [path.relative_to(folder.parent).as_posix(), provenance.file_fingerprint(path)]
        for folder in folders
        for path in files
        if path.is_relative_to(folder)
    ]
    state = provenance.git_state()
    commit = None if state is None else f"{state['commit'][:12]}{' changed' * state['changed']}"
    return Seen(provenance.fingerprint(content), str(folders[0].parent), commit)


def folder_of(package: str) -> Path | None:
    spec = find_spec(package)
    places = None if spec is None else spec.submodule_search_locations
    return None if places is None else Path(next(iter(places)))


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    usual, odd = odd_ones({host: found.fingerprint for host, found in seen.items()})
    model = next(found for found in seen.values() if found.fingerprint == usual)
    for host in odd:
        found = seen[host]
        yield fault(
            host,
            f"its Textmill in {found.folder} ({found.commit or 'no commit'}) is another than in "
            f"{model.folder} ({model.commit or 'no commit'}) elsewhere",
            f"`rsync -a --delete {plan.first}:{model.folder}/ {found.folder}/` on it, or share one "
            "folder",
        )
