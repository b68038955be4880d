"""Easy data augmentation: synonyms, insertion, swap or deletion of words.

After Wei, Zou (2019), "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
Classification Tasks" (arXiv 1901.11196): every copy comes from one of the four operations, drawn at
random. Only words outside entities are changed, and nothing is put into an entity. Pretrained
encoders gain little from it above about a thousand rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from pydantic import model_validator

from finetune.augmentation import edits, lexicon
from finetune.augmentation.augmenting import Augmentation
from finetune.augmentation.edits import Word
from finetune.augmentation.lexicon import WORDNET, Lexicon
from runtime.config import Share

FITS = ("token", "sequence")


class Params(Augmentation):
    """One of four changes a copy; a rate of 0 leaves one out."""

    kind: Literal["eda"] = "eda"
    lexicon: Path | None = None  # TSV: word <tab> synonym[,synonym...]; None: WordNet
    wordnet: str = WORDNET  # folder of index.* and data.* (Debian: wordnet-base)
    synonym_rate: Share = 0.1  # of the words: replaced by synonyms, at least one
    insertion_rate: Share = 0.1  # of the words: as many synonyms of them are put in, at least one
    swap_rate: Share = 0.1  # of the words: so often two change places, at least once
    deletion_rate: Share = 0.1  # chance of a word to be left out

    @property
    def changes(self) -> list[str]:
        """The operations in use."""
        kinds = ("synonym", "insertion", "swap", "deletion")
        return [kind for kind in kinds if getattr(self, f"{kind}_rate") > 0]

    @model_validator(mode="after")
    def changes_something(self) -> Self:
        if not self.changes:
            raise ValueError("all rates are 0, so nothing would change")
        return self


def inputs(params: Params) -> list[Path]:
    return lexicon.inputs(params.lexicon, params.wordnet)


def prepare(train: Sequence[Any], task: Any, params: Params) -> Lexicon:
    return lexicon.opened(params.lexicon, params.wordnet)


def augment(row: Any, resources: Lexicon, params: Params, rng: Random) -> Iterator[Any]:
    """One copy; the row itself if it has nothing to change."""
    kind = rng.choice(params.changes)
    rate = getattr(params, f"{kind}_rate")

    def change(words: list[Word]) -> list[Word]:
        free = edits.free(words)
        count = max(1, int(rate * len(free)))  # as in the paper
        if kind == "swap":
            return swapped(words, free, count, rng)
        if kind == "deletion":
            return deleted(words, free, rate, rng)
        known = lexicon.terms(words, resources, in_mentions=False)
        if kind == "insertion":
            return with_synonyms(words, known, count, resources, rng)
        drawn = sorted(rng.sample(known, min(count, len(known))))
        return lexicon.replaced(words, drawn, resources, rng)

    yield edits.edited(row, rng, change)


def with_synonyms(
    words: list[Word], known: list[tuple[int, int]], count: int, source: Lexicon, rng: Random
) -> list[Word]:
    """Synonyms of the row's own words at random places."""
    found = words
    for start, end in rng.choices(known, k=count) if known else []:
        new = lexicon.replaced(words[start:end], [(0, end - start)], source, rng)
        found = edits.inserted(found, rng.choice(edits.borders(found)), new)
    return found


def swapped(words: list[Word], free: list[int], count: int, rng: Random) -> list[Word]:
    """Two words in each other's place; the white space stays."""
    found = list(words)
    for _ in range(count if len(free) > 1 else 0):
        i, j = rng.sample(free, 2)
        a, b = found[i], found[j]
        found[i], found[j] = replace(a, text=b.text), replace(b, text=a.text)
    return found


def deleted(words: list[Word], free: list[int], rate: float, rng: Random) -> list[Word]:
    """The row without some words; one at least stays."""
    drawn = {i for i in free if rng.random() < rate}
    if len(drawn) == len(words):
        drawn -= {rng.choice(free)} if free else set()
    return [word for i, word in enumerate(words) if i not in drawn]
