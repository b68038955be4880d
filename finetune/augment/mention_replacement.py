"""Mention replacement: entities by others of their type from the training rows.

After Dai, Adel (2020), "An Analysis of Simple Data Augmentation for Named Entity Recognition", but
every distinct mention is as likely as any other.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Literal

from finetune.augmentation import edits
from finetune.augmentation.augmenting import Augmentation
from finetune.ner.tagged_text import Sentence
from runtime.config import Share
from runtime.errors import DataError

FITS = ("token",)

Mentions = dict[str, list[tuple[str, ...]]]  # distinct words of mentions by entity type


class Params(Augmentation):
    """Replaces entities by others of the same type."""

    kind: Literal["mention_replacement"] = "mention_replacement"
    rate: Share = 0.5  # of a row's entities, at least one


def prepare(train: Sequence[Sentence], task: Any, params: Params) -> Mentions:
    """Raises DataError if no type has two mentions."""
    met: dict[str, dict[tuple[str, ...], None]] = {}
    for row in train:
        for entity in row.entities:
            met.setdefault(entity.type, {})[row.words[entity.start : entity.end]] = None
    if all(len(mentions) < 2 for mentions in met.values()):
        raise DataError(
            "mention_replacement needs two different entities of one type in the training rows; "
            f"they have {sum(map(len, met.values()))} in {len(met)} types; remove it from `augment`"
        )
    return {kind: list(mentions) for kind, mentions in met.items()}


def augment(row: Sentence, resources: Mentions, params: Params, rng: Random) -> Iterator[Sentence]:
    """One copy; nothing without entities."""
    if not row.entities:
        return
    count = max(1, round(params.rate * len(row.entities)))
    drawn = set(rng.sample(range(len(row.entities)), count))

    def change(words: list[edits.Word]) -> list[edits.Word]:
        found: list[edits.Word] = []
        place = 0
        for number, entity in enumerate(row.entities):
            found += words[place : entity.start]
            old = words[entity.start : entity.end]
            others = other_mentions(row.words[entity.start : entity.end], resources[entity.type])
            if number in drawn and others:
                found += edits.as_words(rng.choice(others), old[0].gap, number)
            else:
                found += old
            place = entity.end
        return [*found, *words[place:]]

    yield edits.edited(row, rng, change)


def other_mentions(
    mention: tuple[str, ...], known: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    return [other for other in known if other != mention]
