"""No other job uses the folder of the run, and no lock of an ended one stands in the way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time

from launch.doctor.finding import Finding, fault, warning
from launch.doctor.plan import Asked, Plan
from runtime import run_lock
from runtime.errors import DataError


def applies(plan: Plan) -> bool:
    return plan.job is not None


@dataclass(frozen=True)
class Lock:
    """What one host knows of a lock."""

    path: str
    owner: str
    is_alive: bool | None  # None: its process cannot be seen from this host
    is_touched: bool  # lately
    problem: str | None = None  # why it cannot be read


@dataclass(frozen=True)
class Seen:
    locks: list[dict[str, object]]


def look(asked: Asked) -> Seen:
    assert asked.plan.job is not None
    output = Path(asked.plan.job.output)
    every = run_lock.path_of(output, "*")  # of stages, and of tasks that are fine-tuned alone
    paths = sorted(every.parent.glob(every.name))
    return Seen([vars(found) for path in paths if (found := lock_at(path)) is not None])


def lock_at(path: Path) -> Lock | None:
    try:
        owner = run_lock.read(path)
        if owner is None:
            return None
        touched = time() - path.stat().st_mtime < run_lock.SILENT_SECONDS
    except DataError as error:
        return Lock(str(path), "", None, False, str(error))
    except FileNotFoundError:
        return None
    is_here = owner.place == run_lock.place()
    return Lock(str(path), str(owner), run_lock.is_alive(owner) if is_here else None, touched)


def judge(seen: Mapping[str, Seen], plan: Plan) -> Iterator[Finding]:
    known: dict[str, list[Lock]] = {}
    for found in seen.values():
        for row in found.locks:
            lock = Lock(**row)  # type: ignore[arg-type]
            known.setdefault(lock.path, []).append(lock)
    for path, views in known.items():
        first = views[0]
        told = [view.is_alive for view in views if view.is_alive is not None]
        if first.problem is not None:
            yield fault(path, "the lock of the run is damaged", f"`rm {path}` if no job runs there")
        elif any(told) or (not told and any(view.is_touched for view in views)):
            yield fault(
                path,
                f"another job uses this run: {first.owner}",
                "wait for it, stop it, or set another `output`",
            )
        else:
            yield warning(
                path,
                f"a job that is gone has left its lock: {first.owner}",
                f"nothing has to be done: the next start takes it over, from another host after "
                f"{run_lock.SILENT_SECONDS:.0f} s; `rm {path}` saves these",
            )
