"""The trials of a study as work, and what becomes of them."""

import logging
from collections.abc import Sequence

from optuna.trial import Trial

from finetune.search import space, trial_recipe
from finetune.search.running import Setting, Work
from finetune.search.study import Study
from runtime.errors import DataError
from runtime.readable import duration

FAILED_IN_A_ROW = 5  # trials, then the search ends
log = logging.getLogger("textmill")


class Trials:
    """Trials whose driver is gone first, then new ones."""

    def __init__(self, setting: Setting, study: Study) -> None:
        self.setting = setting
        self.study = study
        self.failed_in_a_row = 0

    def next(self) -> Work | None:
        self.study.driver.renew()
        adopted = self.study.adopt()
        trial = adopted or self.study.ask()
        if trial is None:
            return None
        verb = "continues" if adopted else "tries"
        log.info("trial %d %s %s", trial.number, verb, space.shown(trial.params))
        seed = trial_recipe.seed_of(self.setting.recipe, self.setting.target)
        folder = self.setting.folder / "trials" / str(trial.number)
        return Work(f"trial {trial.number}", folder, trial.params, seed, trial)

    def is_over(self) -> bool:
        return not self.study.wants_more() and not self.study.others_run()

    def seen(self, work: Work, values: Sequence[float]) -> bool:
        self.study.driver.renew()
        return self.study.report(trial_of(work), values)

    def done(self, work: Work, score: float, seconds: float) -> None:
        self.failed_in_a_row = 0
        self.study.complete(trial_of(work), score, seconds)
        log.info(
            "%s: %s %.4f, %s", work.name, self.setting.watched.metric, score, duration(seconds)
        )

    def given_up(self, work: Work, seconds: float) -> None:
        self.failed_in_a_row = 0
        trial = self.study.give_up(trial_of(work), seconds)
        log.info(
            "%s: given up after %d evaluations, %s %.4f, %s",
            work.name, len(trial.intermediate_values), self.setting.watched.metric,
            trial.value if trial.value is not None else float("nan"), duration(seconds),
        )  # fmt: skip

    def failed(self, work: Work, error: str, seconds: float) -> None:
        self.failed_in_a_row += 1
        self.study.fail(trial_of(work), error, seconds)
        log.warning("%s failed: %s (log in %s)", work.name, error, work.folder)
        if self.failed_in_a_row == FAILED_IN_A_ROW:
            raise DataError(
                f"{FAILED_IN_A_ROW} trials in a row failed; the last one, {work.folder}, at "
                f"{space.shown(work.values)}: {error}. Mend its cause or the space and run the "
                "same command again"
            )

    def stopped(self, work: Work, seconds: float) -> None:
        self.study.spend(trial_of(work), seconds)
        log.info("%s: saved and stopped", work.name)


def trial_of(work: Work) -> Trial:
    assert isinstance(work.handle, Trial)
    return work.handle
