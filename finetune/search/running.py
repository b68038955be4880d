"""Run work in places, one piece in each at a time, until there is no more or a stop was asked for.

A piece of work is one recipe trained in one folder: a trial, or a winner again with another seed.
Each becomes processes of their own, `python -m finetune train FOLDER/recipe.toml`; what was
interrupted is started again in its folder and continues. After a stop signal every piece is told
to save; the same command continues all of them. Imports neither torch nor optuna.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from finetune.config import Recipe
from finetune.search import job, progress, starts, trial_recipe
from finetune.search.job import Job
from finetune.search.places import Place
from finetune.search.progress import Watched
from finetune.search.table import Value
from runtime import provenance, signals
from runtime.errors import RecipeError, StopRequested
from runtime.recipe import to_toml

POLL_SECONDS = 0.5
RECIPE = "recipe.toml"
log = logging.getLogger("textmill")


@dataclass(frozen=True)
class Setting:
    """What all pieces of work of a search have in common."""

    recipe: Recipe
    target: str
    folder: Path  # of the search
    watched: Watched
    places: Sequence[Place]
    starter: job.Starter = job.popen


@dataclass(frozen=True)
class Work:
    """One recipe to be trained in one folder."""

    name: str  # for people
    folder: Path
    values: Mapping[str, Value]
    seed: int
    handle: Any = None  # of whoever gave the work


class Source(Protocol):
    """Gives work and is told what came of it."""

    def next(self) -> Work | None:
        """The next piece; None: nothing to be started now."""
        ...

    def is_over(self) -> bool:
        """True if nothing will come any more, once all that runs has ended."""
        ...

    def seen(self, work: Work, values: Sequence[float]) -> bool:
        """Told of the values so far, again and again; True: give the work up."""
        ...

    def done(self, work: Work, score: float, seconds: float) -> None: ...

    def given_up(self, work: Work, seconds: float) -> None: ...

    def failed(self, work: Work, error: str, seconds: float) -> None: ...

    def stopped(self, work: Work, seconds: float) -> None:
        """It saved and ended before it was done."""
        ...


@dataclass
class Running:
    """Work that occupies a place."""

    work: Work
    job: Job
    is_given_up: bool = False


def run(setting: Setting, source: Source) -> None:
    """Do all the work of a source. Raises StopRequested after a stop signal, everything saved."""
    running: dict[int, Running] = {}
    again: list[Work] = []  # ended on a signal that was not ours
    try:
        while True:
            if signals.stop_requested():
                for each in running.values():
                    each.job.stop()
            else:
                fill(setting, source, running, again)
            if not running and (signals.stop_requested() or (not again and source.is_over())):
                break
            for number, each in list(running.items()):
                watch(setting, source, each)
                code = each.job.poll()
                if code is not None:
                    del running[number]
                    again += settle(setting, source, each, code)
            time.sleep(POLL_SECONDS)
    finally:
        for each in running.values():  # only after an error of our own
            each.job.kill()
    if signals.stop_requested():
        raise StopRequested(
            f"the search of {setting.target} stopped on request; run the same command again to "
            "continue"
        )


def fill(setting: Setting, source: Source, running: dict[int, Running], again: list[Work]) -> None:
    """Start work in every place that is free."""
    for place in setting.places:
        while place.number not in running:
            work = again.pop(0) if again else source.next()
            if work is None:
                return
            started = start(setting, source, work, place)
            if started is not None:
                running[place.number] = started


def start(setting: Setting, source: Source, work: Work, place: Place) -> Running | None:
    """Start or continue a piece of work; None if it is settled already."""
    job.end_leftover(work.folder)
    score = progress.score(work.folder, setting.watched)
    if score is not None:  # by a process that outlived its driver
        source.done(work, score, 0.0)
        return None
    try:
        recipe = trial_recipe.of(
            setting.recipe, setting.target, work.values, work.folder, work.seed, place.threads
        )
    except RecipeError as error:
        source.failed(work, str(error), 0.0)
        return None
    work.folder.mkdir(parents=True, exist_ok=True)
    provenance.write_text(work.folder / RECIPE, to_toml(recipe))
    arguments = ["-m", "finetune", *command(setting), str(work.folder / RECIPE)]
    cache = setting.folder / "cache"
    found = starts.of(place, arguments, work.folder, cache, os.environ)
    log.info("%s: starts on %s", work.name, place.name)
    return Running(work, Job(found, work.folder, setting.starter))


def command(setting: Setting) -> list[str]:
    """What is run of fine-tuning."""
    folds = setting.recipe.search.folds
    if not folds:
        return ["train"]
    return ["crossvalidate", "--folds", str(folds), "--task", setting.target]


def watch(setting: Setting, source: Source, each: Running) -> None:
    """Tell of the values so far, and stop what is not worth finishing."""
    if each.job.is_stopping:
        return
    values = progress.values(each.work.folder, setting.watched, each.work.seed)
    if source.seen(each.work, values):
        each.is_given_up = True
        each.job.stop()


def settle(setting: Setting, source: Source, each: Running, code: int) -> list[Work]:
    """Tell what became of work that has ended; returns it if it must be started again."""
    work, seconds = each.work, time.monotonic() - each.job.started
    # The last values, too late to give up.
    source.seen(work, progress.values(work.folder, setting.watched, work.seed))
    score = progress.score(work.folder, setting.watched)
    if score is not None or each.is_given_up:
        progress.tidy(work.folder, setting.watched)
    if each.is_given_up:
        source.given_up(work, seconds)
    elif score is not None:
        source.done(work, score, seconds)
    elif each.job.has_saved(code):
        source.stopped(work, seconds)
        return [] if signals.stop_requested() else [work]
    else:
        source.failed(work, each.job.error(), seconds)
    return []
