"""A task's held-out rows predicted by a model that learns other tasks beside it.

The rows of the others are all trained on, with their copies: only the task that is predicted, the
main one, is cut into folds.
"""

from dataclasses import replace
from pathlib import Path

from finetune.config import Recipe
from finetune.held_out import Learner
from finetune.multitask import trainable
from finetune.multitask.prepare import Several
from finetune.multitask.train import with_copies
from finetune.prepare import Prepared


def learner(recipe: Recipe, several: Several, folder: Path, accepts_drift: bool) -> Learner:
    """What trains on rows of the main task and all of the others' (finetune/held_out.py). All ranks
    call it: copies of the others' rows are made here."""
    others = replace(several, tasks=several.tasks[1:])
    others, _ = with_copies(recipe, others, folder, accepts_drift)

    def with_main(main: Prepared) -> Several:
        return replace(several, tasks=[main, *others.tasks])

    return Learner(
        lambda main: trainable.trainable(with_main(main), recipe.track.interval_steps),
        lambda engine, main: trainable.together(engine).part(main.name),
        lambda main: trainable.identity_of(with_main(main)),
        others.names,
    )
