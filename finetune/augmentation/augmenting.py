"""Augmentation of labelled training rows; valid and test rows are never touched, nor copied.

An operation is a torch-free module in `finetune/augment/` with
    Params(Augmentation)                      the recipe table
    FITS                                      heads of the tasks it is for: "token", "sequence"
    prepare(train, task, params) -> resources what it learns from the training rows or opens, once;
                                              DataError if these rows are nothing for it
    augment(row, resources, params, rng) -> Iterator[row]
                                              the rows of one copy (usually one, none if it cannot),
                                              with their labels; a row of `train` is never changed
    inputs(params) -> list[Path]              optional: files a change of which matters
One that needs a model keeps it in its resources and imports torch inside its functions; what it
makes of a row must not depend on the other rows of a call. The task's `encoder` is set: it names
the folder that training starts from. Rows of a "token" task are `tagged_text.Sentence`, those of a
"sequence" task have `texts` and `label`; `finetune/augmentation/edits.py` changes both by words.

What an operation makes of a row depends on the seed, the operation's place in the recipe, the
number of the row and the number of the copy, never on the order of the rows or on ranks. Copies are
dropped, and counted by reason, if they are the row they were made from (`unchanged`: an operation
yields the row itself where it failed), have the texts of a training row or of an earlier copy
(`duplicate`), have those of a valid or test row, also in another case, spacing, punctuation or
order of a pair (`in_valid_or_test`), or if `filter_model` predicts other labels for them
(`filtered`). That model must not have seen rows that a choice by folds scores: with `auto`, it
makes gains look larger.
Training on them, and choosing operations by folds, is finetune/augmentation/autoaugment.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import xxhash
from pydantic import Field, SerializeAsAny

from data_prep import local_models
from finetune.augmentation import agreement
from runtime import plugins
from runtime.config import Positive, Share
from runtime.errors import DataError, RecipeError
from runtime.recipe import RecipeTable

AUGMENTATIONS = "finetune.augment"
DROPPED = ("unchanged", "duplicate", "in_valid_or_test", "filtered")

Texts = Callable[[Any], tuple[str, ...]]  # of a row: a task plug-in's `texts`


class Augmentation(RecipeTable):
    """One way of making new labelled rows from others."""

    kind: str  # plug-in in finetune/augment/
    share: Share = 1.0  # of the training rows that get copies
    copies: Positive = 1  # of each such row
    filter_model: Path | None = (
        None  # export of a task model trained on the rows as read: copies stay if it agrees
    )
    min_probability: Share = 0.5  # that `filter_model` gives the label; of entities it asks none


AnyAugmentation = Annotated[SerializeAsAny[Augmentation], plugins.table(AUGMENTATIONS, "kind")]


class Labelled(RecipeTable):
    """What decides which augmentations of a task are used."""

    auto: bool = False  # keep only those of a task's `augment` that help on folds
    folds: Annotated[int, Field(ge=2)] = 5  # of the training rows, for `auto`
    max_p: Share = 0.05  # of the paired bootstrap, one-sided: a gain counts up to it


@dataclass(frozen=True)
class Copy:
    """A new row and where it comes from."""

    origin: int  # number of the training row it was made from
    place: int  # of the operation in the recipe
    row: Any


@dataclass(frozen=True)
class Augmented:
    """The copies that are trained on, and what became of the others."""

    copies: list[Copy]
    counts: dict[int, dict[str, int]]  # by place: made, each reason of DROPPED, kept


def names(operations: Sequence[Augmentation]) -> list[str]:
    """A name for each operation of a task: its kind, numbered by its place if that is met twice."""
    met = Counter(operation.kind for operation in operations)
    return [
        operation.kind if met[operation.kind] == 1 else f"{operation.kind}-{place}"
        for place, operation in enumerate(operations, start=1)
    ]


def check(name: str, task: Any) -> None:
    """Raise RecipeError or DataError if an operation is not for this kind of task, or lacks a
    file."""
    wrong = misfits(task.kind, task.augment)
    if wrong:
        raise RecipeError(f"tasks.{name}: {'; '.join(wrong)}; remove it from `augment`")
    inputs(task.augment)


def misfits(kind: str, operations: Sequence[Augmentation]) -> list[str]:
    """What is wrong with operations for a kind of task."""
    head = plugins.find("finetune.tasks", kind).HEAD
    found = []
    for operation in operations:
        fits = plugins.find(AUGMENTATIONS, operation.kind).FITS
        if head not in fits:
            found.append(
                f"augment {operation.kind!r} is for tasks with a {' or '.join(fits)} head; "
                f"{kind!r} has a {head} head"
            )
    return found


def inputs(operations: Sequence[Augmentation]) -> list[Path]:
    """The files that operations read. Raises DataError if one is missing."""
    paths: list[Path] = []
    for operation in operations:
        module = plugins.find(AUGMENTATIONS, operation.kind)
        paths += module.inputs(operation) if hasattr(module, "inputs") else []
        paths += model_files(operation.filter_model) if operation.filter_model else []
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"augmentation needs {', '.join(missing)}, which is missing; correct the path in "
            "`augment` (WordNet is Debian's wordnet-base)"
        )
    return paths


def model_files(folder: Path) -> list[Path]:
    """The files of a model: a change of one matters. Raises DataError if there are none."""
    found = local_models.files(folder)
    if not found:
        raise DataError(f"augmentation needs a model in {folder}, which is missing or empty")
    return found


def made(
    train: Sequence[Any],
    task: Any,
    place: int,
    seed: int,
    numbers: Iterable[int],
) -> tuple[list[Copy], int]:
    """What an operation makes of the rows with these numbers, and how many its filter dropped.

    Raises DataError if the rows are nothing for it.
    """
    operation = task.augment[place]
    module = plugins.find(AUGMENTATIONS, operation.kind)
    resources = module.prepare(train, task, operation)
    copies = [
        Copy(number, place, row)
        for number in numbers
        if rng_of(seed, place, number, -1).random() < operation.share
        for copy in range(operation.copies)
        for row in module.augment(
            train[number], resources, operation, rng_of(seed, place, number, copy)
        )
    ]
    if operation.filter_model is None or not copies:
        return copies, 0
    stays = agreement.agrees(
        [copy.row for copy in copies], operation.filter_model, operation.min_probability
    )
    kept = [copy for copy, is_kept in zip(copies, stays, strict=True) if is_kept]
    return kept, len(copies) - len(kept)


def chosen(
    train: Sequence[Any],
    held_out: Iterable[Any],
    texts: Texts,
    copies: Sequence[Copy],
    filtered: dict[int, int],
) -> Augmented:
    """The copies that may be trained on, in order of place and origin, each text once.

    `held_out` are the rows of valid and test; `filtered` counts, by place, what is gone already.
    """
    seen = {texts(row) for row in train}
    forbidden = {letters(texts(row)) for row in held_out}
    counts = {
        place: Counter({"made": num_filtered, "filtered": num_filtered})
        for place, num_filtered in filtered.items()
    }
    kept = []
    for copy in sorted(copies, key=lambda copy: (copy.place, copy.origin)):
        text = texts(copy.row)
        if copy.row == train[copy.origin]:
            reason = "unchanged"
        elif text in seen:
            reason = "duplicate"
        elif letters(text) in forbidden:
            reason = "in_valid_or_test"
        else:
            reason = "kept"
            seen.add(text)
            kept.append(copy)
        counts[copy.place].update(("made", reason))
    shown = ("made", *DROPPED, "kept")
    return Augmented(
        kept, {place: {name: found[name] for name in shown} for place, found in counts.items()}
    )


def likeness(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The same for texts that differ in case, white space or order only."""
    return tuple(sorted("".join(text.casefold().split()) for text in texts))


def letters(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The same for texts that differ in case, white space, punctuation or order only; symbols count
    where there is nothing else."""
    found = tuple(sorted("".join(filter(str.isalnum, text.casefold())) for text in texts))
    return found if any(found) else likeness(texts)


def rng_of(seed: int, place: int, number: int, copy: int) -> Random:
    """The random numbers of one copy of one row by one operation; copy -1: whether it gets any."""
    return Random(xxhash.xxh3_128_intdigest(f"{seed}\n{place}\n{number}\n{copy}".encode()))
