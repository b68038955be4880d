"""Augmentation of labelled training rows; valid and test rows are never touched.

An augmentation is a module in `finetune/augment/` with
    Params(Augmentation)                          the recipe table
    FITS                                          kinds of rows it can change: tuple of task kinds
    prepare(train, task, params) -> resources     what it learns from the training rows or reads
    augment(row, resources, params, rng) -> Iterator[row]     new rows only, labels with them
    inputs(params) -> list[Path]                  optional: files a change of which matters
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny

from runtime import plugins
from runtime.config import Positive, Share
from runtime.recipe import RecipeTable

AUGMENTATIONS = "finetune.augment"


class Augmentation(RecipeTable):
    """One way of making new labelled rows from others."""

    kind: str  # plug-in in finetune/augment/
    share: Share = 1.0  # of the training rows that get copies
    copies: Positive = 1  # of each such row


AnyAugmentation = Annotated[SerializeAsAny[Augmentation], plugins.table(AUGMENTATIONS, "kind")]


class Labelled(RecipeTable):
    """What decides which augmentations of a task are used."""

    auto: bool = False  # keep only those of a task's `augment` that help on folds
    folds: Annotated[int, Field(ge=2)] = 5  # of the training rows, for `auto`
    max_p: Share = 0.05  # of the paired bootstrap, below which a gain counts


def apply(recipe: Any, prepared: Any, folder: Path, accepts_drift: bool) -> tuple[Any, Any]:
    """The task with augmented training rows, and what the report says of it (None: nothing)."""
    return prepared, None
