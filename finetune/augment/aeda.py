"""AEDA: punctuation marks put in at random places.

After Karimi, Rossi, Prati (2021), "AEDA: An Easier Data Augmentation Technique for Text
Classification" (arXiv 2108.13230): from one mark to a third of the words, each of six. No mark is
put into an entity.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Literal

from finetune.augmentation import edits
from finetune.augmentation.augmenting import Augmentation
from finetune.augmentation.edits import Word
from runtime.config import Share

FITS = ("token", "sequence")
MARKS = (".", ";", "?", ":", "!", ",")


class Params(Augmentation):
    """Puts punctuation marks between words."""

    kind: Literal["aeda"] = "aeda"
    most: Share = 1 / 3  # marks a word of the row; how many is drawn between 1 and that


def prepare(train: Sequence[Any], task: Any, params: Params) -> None:
    """Nothing is learnt."""


def augment(row: Any, resources: None, params: Params, rng: Random) -> Iterator[Any]:
    """One copy; the row itself if it has no words."""

    def change(words: list[Word]) -> list[Word]:
        if not words:
            return words
        found = words
        for _ in range(rng.randint(1, max(1, int(params.most * len(words))))):
            place = rng.choice(edits.borders(found))
            found = edits.inserted(found, place, [Word(rng.choice(MARKS))])
        return found

    yield edits.edited(row, rng, change)
