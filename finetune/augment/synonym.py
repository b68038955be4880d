"""Synonym replacement: words by synonyms, from WordNet or from a lexicon in any language.

Entities keep their words unless `in_mentions` is set.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from finetune.augmentation import edits, lexicon
from finetune.augmentation.augmenting import Augmentation
from finetune.augmentation.lexicon import WORDNET, Lexicon
from runtime.config import Share

FITS = ("token", "sequence")


class Params(Augmentation):
    """Replaces words by synonyms; their case is kept."""

    kind: Literal["synonym"] = "synonym"
    lexicon: Path | None = None  # TSV: word <tab> synonym[,synonym...]; None: WordNet
    wordnet: str = WORDNET  # folder of index.* and data.* (Debian: wordnet-base)
    rate: Share = 0.2  # of a row's words that have synonyms, at least one
    in_mentions: bool = False  # also words of entities


def inputs(params: Params) -> list[Path]:
    return lexicon.inputs(params.lexicon, params.wordnet)


def prepare(train: Sequence[Any], task: Any, params: Params) -> Lexicon:
    return lexicon.opened(params.lexicon, params.wordnet)


def augment(row: Any, resources: Lexicon, params: Params, rng: Random) -> Iterator[Any]:
    """One copy; the row itself if no word has a synonym."""

    def change(words: list[edits.Word]) -> list[edits.Word]:
        known = lexicon.terms(words, resources, params.in_mentions)
        return lexicon.replaced(words, lexicon.some(known, params.rate, rng), resources, rng)

    yield edits.edited(row, rng, change)
