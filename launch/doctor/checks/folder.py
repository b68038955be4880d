"""The folder that ranks start in exists everywhere, with the same recipe in it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.doctor.finding import Finding, fault, odd_ones
from launch.doctor.plan import Asked, Plan
from runtime import provenance


@dataclass(frozen=True)
class Seen:
    exists: bool
    recipe: str | None  # fingerprint of the recipe's file; None: not there, or not asked for


def look(asked: Asked) -> Seen:
    job = asked.plan.job
    recipe = None if job is None else Path(job.recipe)
    return Seen(
        os.path.isdir(asked.plan.folder),
        None if recipe is None or not recipe.is_file() else provenance.file_fingerprint(recipe),
    )


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    there = {host: found for host, found in seen.items() if found.exists}
    for host in seen.keys() - there.keys():
        yield fault(
            host,
            f"the folder {plan.folder} does not exist there",
            "mount the file system that the hosts share, or "
            f"`rsync -a {plan.first}:{plan.folder}/ {plan.folder}/` on it",
        )
    if plan.job is None or not there:
        return
    _, odd = odd_ones({host: found.recipe for host, found in there.items()})
    for host, recipe in odd.items():
        told = "is missing there" if recipe is None else "differs from that of the other hosts"
        yield fault(
            host,
            f"the recipe {plan.job.recipe} {told}",
            f"`scp {next(iter(there))}:{plan.job.recipe} {plan.job.recipe}` on it",
        )
