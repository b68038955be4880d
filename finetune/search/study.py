"""The study: what Optuna keeps of a search, in a journal that drivers on all nodes share.

The journal opens in optuna-dashboard. What a trial is given depends on the seed, on its number and
on what is known when it is asked for, not on restarts: a search that was interrupted goes on as it
would have. A study made for another space, metric, data or other settings is refused: its scores
could not be compared. This file alone imports optuna.

Beside its values a trial has attributes: `driver` (who looks after it), `seconds` (of all its
starts), and `error`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import xxhash
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from finetune.search import space
from finetune.search.drivers import Driver, locked
from finetune.search.table import Range, Search
from runtime import drift
from runtime.errors import DataError

JOURNAL = "journal.log"
LOCK = "lock"
IDENTITY = "identity"
ENOUGH_FOR_IMPORTANCE = 4  # completed trials


class Study:
    """A search's trials, as this driver sees and changes them."""

    def __init__(
        self,
        folder: Path,
        table: Search,
        target: str,
        identity: Mapping[str, Any],
        num_evaluations: int,
        seed: int,
    ) -> None:
        """Open or create it. Raises DataError if the folder holds a study of something else."""
        self.folder = folder
        self.table = table
        self.seed = seed
        self.driver = Driver(folder)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        with locked(folder / LOCK):
            self.optuna = optuna.create_study(
                storage=storage,
                study_name=target,
                direction="maximize",
                load_if_exists=True,
                pruner=pruner(table, num_evaluations),
            )
            self.begin_or_refuse(drift.as_json(identity))

    def begin_or_refuse(self, identity: dict[str, Any]) -> None:
        saved = self.optuna.user_attrs.get(IDENTITY)
        if saved is not None:
            found = drift.changes(saved, identity)
            if found:
                raise DataError(
                    f"{self.folder} holds a study of another space or of other settings (there -> "
                    f"this recipe):\n{drift.described(found)}\nrestore them to continue it; or set "
                    f"another `output`, or delete {self.folder}, to search anew"
                )
            return
        with experimental():
            self.optuna.set_metric_names([identity["metric"]])
        if self.table.sampler == "grid":
            for point in space.points(self.table.space):
                self.optuna.enqueue_trial(point)
        self.optuna.set_user_attr(IDENTITY, identity)  # last: a study without it has not begun

    def ask(self) -> Trial | None:
        """A new trial of this driver's, its values drawn; None if there are enough."""
        with locked(self.folder / LOCK):
            if not self.wants_more():
                return None
            self.optuna.sampler = sampler(self.table, self.seed_of(len(self.trials())))
            trial = self.optuna.ask(
                {key: distribution(found) for key, found in self.table.space.items()}
            )
            trial.set_user_attr("driver", self.driver.name)
            return trial

    def seed_of(self, number: int) -> int:
        """The seed of what is drawn for a trial."""
        return xxhash.xxh32_intdigest(f"{self.seed}\n{number}".encode())

    def wants_more(self) -> bool:
        """True while trials are missing; those that run count, those that failed do not."""
        counts = self.counts()
        if self.table.sampler == "grid":
            return counts[TrialState.WAITING] > 0
        counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        return sum(counts[state] for state in counted) < self.table.trials

    def counts(self) -> dict[TrialState, int]:
        states = [trial.state for trial in self.trials()]
        return {state: states.count(state) for state in TrialState}

    def trials(self) -> list[FrozenTrial]:
        return list(self.optuna.get_trials(deepcopy=False))

    def adopt(self) -> Trial | None:
        """A trial whose driver is gone, now this driver's. One without all of its values, whose
        driver died while drawing them, is failed."""
        with locked(self.folder / LOCK):
            for frozen in self.trials():
                if frozen.state is not TrialState.RUNNING:
                    continue
                if self.driver.lives(frozen.user_attrs.get("driver")):
                    continue
                if set(frozen.params) != set(self.table.space):
                    self.optuna.tell(frozen.number, state=TrialState.FAIL)
                    continue
                trial = Trial(self.optuna, frozen._trial_id)
                trial.set_user_attr("driver", self.driver.name)
                return trial
        return None

    def others_run(self) -> bool:
        """True while another driver has trials that run."""
        return any(
            trial.state is TrialState.RUNNING and trial.user_attrs.get("driver") != self.driver.name
            for trial in self.trials()
        )

    def report(self, trial: Trial, values: Sequence[float]) -> bool:
        """Add what is new of a trial's values so far; True if it should be given up."""
        known = self.trials()[trial.number].intermediate_values
        for step, value in enumerate(values, 1):
            if step not in known:
                trial.report(value, step)
                if trial.should_prune():
                    return True
        return False

    def complete(self, trial: Trial, score: float, seconds: float) -> None:
        self.spend(trial, seconds)
        self.optuna.tell(trial, score)

    def give_up(self, trial: Trial, seconds: float) -> FrozenTrial:
        """Its value is the last one reported."""
        self.spend(trial, seconds)
        return self.optuna.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, error: str, seconds: float) -> None:
        self.spend(trial, seconds)
        trial.set_user_attr("error", error)
        self.optuna.tell(trial, state=TrialState.FAIL)

    def spend(self, trial: Trial, seconds: float) -> None:
        """Add the time of a start, also of one that is to be continued."""
        before = trial.user_attrs.get("seconds", 0.0)
        trial.set_user_attr("seconds", round(before + seconds, 1))

    def best(self, number: int) -> list[FrozenTrial]:
        """The best completed trials, the earlier of equal ones first."""
        completed = [trial for trial in self.trials() if trial.state is TrialState.COMPLETE]
        return sorted(completed, key=lambda trial: (-value_of(trial), trial.number))[:number]

    def importance(self) -> dict[str, float]:
        """The share of each setting in how scores differ (PED-ANOVA); empty if too little is
        known."""
        completed = self.best(len(self.trials()))
        if len(completed) < ENOUGH_FOR_IMPORTANCE or value_of(completed[0]) == value_of(
            completed[-1]
        ):
            return {}
        return dict(optuna.importance.get_param_importances(self.optuna))


@contextmanager
def experimental() -> Iterator[None]:
    """Around what Optuna may change in a later version: it says so each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def value_of(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return float(trial.value)


def distribution(found: Range) -> BaseDistribution:
    """A range as Optuna draws from it."""
    if found.values is not None:
        return CategoricalDistribution(found.values)
    high = space.values_of(found)[-1] if found.step is not None else found.high
    if found.is_whole:
        return IntDistribution(found.low, high, log=found.log, step=found.step or 1)
    return FloatDistribution(found.low, high, log=found.log, step=found.step)


def sampler(table: Search, seed: int) -> optuna.samplers.BaseSampler:
    """How values are drawn; of a grid they are given."""
    if table.sampler == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=table.startup_trials, constant_liar=table.parallel > 1
        )
    if table.sampler == "gp":
        with experimental():
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=table.startup_trials)
    return optuna.samplers.RandomSampler(seed=seed)


def pruner(table: Search, num_evaluations: int) -> optuna.pruners.BasePruner:
    """When a trial is given up."""
    if table.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=table.startup_trials)
    if table.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=num_evaluations)
    return optuna.pruners.NopPruner()
