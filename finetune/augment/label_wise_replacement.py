"""Label-wise token replacement: words by others that were met with the same tag.

After Dai, Adel (2020), "An Analysis of Simple Data Augmentation for Named Entity Recognition": the
more often a word has a tag in the training rows, the more likely it is drawn for it. What is made
is no language, but its tags are right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal

from finetune.augmentation import edits
from finetune.augmentation.augmenting import Augmentation
from finetune.ner.tagged_text import Sentence
from runtime.config import Share

FITS = ("token",)

Words = dict[str, list[str]]  # by tag, as often as they were met


class Params(Augmentation):
    """Replaces words by others with the same tag."""

    kind: Literal["label_wise_replacement"] = "label_wise_replacement"
    rate: Share = 0.2  # chance of a word to be replaced


def prepare(train: Sequence[Sentence], task: Any, params: Params) -> Words:
    met: Words = {}
    for row in train:
        for word, tag in zip(row.words, row.tags, strict=True):
            met.setdefault(tag, []).append(word)
    return met


def augment(row: Sentence, resources: Words, params: Params, rng: Random) -> Iterator[Sentence]:
    """One copy; the row itself if no word was drawn."""

    def change(words: list[edits.Word]) -> list[edits.Word]:
        return [
            replace(word, text=rng.choice(resources[tag])) if rng.random() < params.rate else word
            for word, tag in zip(words, row.tags, strict=True)
        ]

    yield edits.edited(row, rng, change)
