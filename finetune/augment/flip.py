"""Text flip: the words of a row in reverse order; an entity stays in its own order.

Reversed text measurably hurts pretrained encoders: it teaches an order that no real text has. It is
here for comparison, and `[augment] auto` is there to leave it out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from random import Random
from typing import Any, Literal

from finetune.augmentation import edits
from finetune.augmentation.augmenting import Augmentation
from finetune.augmentation.edits import Word

FITS = ("token", "sequence")


class Params(Augmentation):
    """Reverses the order of words."""

    kind: Literal["flip"] = "flip"


def prepare(train: Sequence[Any], task: Any, params: Params) -> None:
    """Nothing is learnt."""


def augment(row: Any, resources: None, params: Params, rng: Random) -> Iterator[Any]:
    """The reversed row; the row itself if it reads the same."""

    def change(words: list[Word]) -> list[Word]:
        units: list[list[Word]] = []
        for mention, run in groupby(words, lambda word: word.mention):
            unit = list(run)
            units += [unit] if mention is not None else [[word] for word in unit]
        gaps = [unit[0].gap for unit in units]  # they stay where they were
        found: list[Word] = []
        for unit, gap in zip(reversed(units), gaps, strict=True):
            found += [replace(unit[0], gap=gap), *unit[1:]]
        return found

    yield edits.edited(row, rng, change)
