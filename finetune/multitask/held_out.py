"""A task's held-out rows predicted by a model that learns other tasks beside it.

The rows of the others are all trained on, with their copies: only the task that is predicted, the
main one, is cut into folds.
"""

from dataclasses import replace
from pathlib import Path

from finetune.augmentation import autoaugment
from finetune.config import Recipe
from finetune.held_out import Learner
from finetune.multitask import trainable
from finetune.multitask.prepare import Several
from finetune.multitask.prepare import prepare as prepared
from finetune.prepare import Prepared

__all__ = ["learner", "prepared"]


def learner(recipe: Recipe, several: Several, folder: Path, accepts_drift: bool) -> Learner:
    """What trains on rows of the main task and all of the others' (finetune/held_out.py). All ranks
    call it: copies of the others' rows are made here."""
    others = [
        autoaugment.apply(recipe, task, folder / task.name, accepts_drift)[0]
        for task in several.tasks[1:]
    ]

    def with_main(main: Prepared) -> Several:
        return replace(several, tasks=[main, *others])

    return Learner(
        lambda main: trainable.trainable(with_main(main), recipe.track.interval_steps),
        lambda engine, main: trainable.together(engine).part(main.name),
        lambda main: trainable.identity_of(with_main(main)),
        several.names[1:],
    )
