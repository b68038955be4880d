"""The best trials run again with seeds no trial had: what is left of their lead?

A trial that is best of many is partly lucky. The top few are trained over new seeds, and the one
with the best mean is chosen. Drivers of one study share this work: who takes a run writes its name
into the run's folder.
"""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.search import progress, trial_recipe
from finetune.search.drivers import Driver, locked
from finetune.search.running import Setting, Work
from finetune.search.table import Value
from runtime.readable import duration

TAKEN_BY = "driver"
log = logging.getLogger("textmill")


@dataclass
class Candidate:
    """A trial of the top and what it came to with other seeds."""

    number: int  # of the trial
    values: Mapping[str, Value]
    score: float  # of the trial
    scores: dict[int, float] = field(default_factory=dict)  # by seed
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores.values()) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample deviation over the seeds."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None


class Repeats:
    """One run for each candidate and seed."""

    def __init__(self, setting: Setting, driver: Driver, candidates: Sequence[Candidate]) -> None:
        self.setting = setting
        self.driver = driver
        first = trial_recipe.seed_of(setting.recipe, setting.target) + 1
        self.waiting = [
            Work(
                f"trial {candidate.number} with seed {seed}",
                setting.folder / "top" / f"{candidate.number}-seed-{seed}",
                candidate.values,
                seed,
                candidate,
            )
            for candidate in candidates
            for seed in range(first, first + setting.recipe.search.top_seeds)
        ]

    def next(self) -> Work | None:
        self.driver.renew()
        for work in self.waiting:
            if self.take(work.folder):
                self.waiting.remove(work)
                return work
        return None

    def take(self, folder: Path) -> bool:
        """True if the run is this driver's now; false if another one works at it."""
        with locked(self.setting.folder / "lock"):
            path = folder / TAKEN_BY
            owner = path.read_text() if path.is_file() else None
            if owner != self.driver.name and self.driver.lives(owner):
                return False
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(self.driver.name)
            return True

    def is_over(self) -> bool:
        """What another driver has finished is finished here too."""
        for work in list(self.waiting):
            score = progress.score(work.folder, self.setting.watched)
            if score is not None:
                self.waiting.remove(work)
                candidate_of(work).scores[work.seed] = score
        return not self.waiting

    def seen(self, work: Work, values: Sequence[float]) -> bool:
        self.driver.renew()
        return False

    def done(self, work: Work, score: float, seconds: float) -> None:
        candidate_of(work).scores[work.seed] = score
        spent = f", {duration(seconds)}" if seconds else ""
        log.info("%s: %s %.4f%s", work.name, self.setting.watched.metric, score, spent)

    def given_up(self, work: Work, seconds: float) -> None:
        raise AssertionError("only trials are given up")

    def failed(self, work: Work, error: str, seconds: float) -> None:
        candidate_of(work).errors[work.seed] = error
        log.warning("%s failed: %s (log in %s)", work.name, error, work.folder)

    def stopped(self, work: Work, seconds: float) -> None:
        log.info("%s: saved and stopped", work.name)


def candidate_of(work: Work) -> Candidate:
    assert isinstance(work.handle, Candidate)
    return work.handle
