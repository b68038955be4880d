"""Pair generation: new pairs of the texts that a pair task has, alike or not alike.

Texts joined by positive pairs mean the same, also over several pairs: if A is like B and B like C,
then A is like C. So a positive pair is two such texts that were not paired, else the pair the other
way round. A negative pair joins a text with one of another meaning; the hard ones are those that
share the most words with it, which a model cannot tell by counting words. No pair is made that the
training rows, or what follows from them, contradict. Nobody has looked at the negative pairs: where
many texts mean the same, some are wrong; `filter_model` finds them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, Self

from pydantic import model_validator

from finetune.augmentation.augmenting import Augmentation
from finetune.ner import words
from runtime.config import Positive, Share
from runtime.errors import DataError

FITS = ("sequence",)


class Params(Augmentation):
    """Pairs texts anew."""

    kind: Literal["pairs"] = "pairs"
    positive: str = "1"  # label of texts that mean the same
    negative: str = "0"  # label of texts that do not
    positive_share: Share = 0.5  # of the copies; less where rows have no such pair to offer
    hard_share: Share = 0.5  # of the negative pairs: those with the most words in common
    hard_among: Positive = 200  # texts drawn, the likest of which makes a hard pair
    is_symmetric: bool = True  # order means nothing; false: no positive pairs are made

    @model_validator(mode="after")
    def labels_differ(self) -> Self:
        if self.positive == self.negative:
            raise ValueError(f"positive and negative are both {self.positive!r}")
        return self


@dataclass(frozen=True)
class Known:
    """The texts of the training rows and how they are related."""

    texts: list[str]  # distinct, in the order they were met
    meaning: dict[str, int]  # of each text: the number of its meaning
    members: dict[int, list[str]]  # of each meaning
    unlike: set[tuple[int, int]]  # meanings that a negative pair holds apart, both ways
    paired: set[tuple[str, str]]  # both ways
    words: dict[str, frozenset[str]]  # of each text, for overlap


def prepare(train: Sequence[Any], task: Any, params: Params) -> Known:
    """Raises DataError if the rows are no pairs, or none has one of the labels."""
    if any(len(row.texts) != 2 for row in train):
        raise DataError("pairs needs rows of two texts; set the task's `text_pair_field`")
    labels = {row.label for row in train}
    if not {params.positive, params.negative} <= labels:
        raise DataError(
            f"pairs: positive = {params.positive!r} and negative = {params.negative!r} must be "
            f"labels of training rows, which are {', '.join(sorted(map(repr, labels)))}"
        )
    texts = list(dict.fromkeys(text for row in train for text in row.texts))
    positive = [row.texts for row in train if row.label == params.positive]
    meaning = meanings(texts, positive if params.is_symmetric else [])
    members: dict[int, list[str]] = {}
    for text in texts:
        members.setdefault(meaning[text], []).append(text)
    both_ways = [pair for row in train for pair in (row.texts, row.texts[::-1])]
    apart = [row.texts for row in train if row.label != params.positive]
    unlike = {(meaning[a], meaning[b]) for x, y in apart for a, b in ((x, y), (y, x))}
    spelled = {text: frozenset(words_of(text)) for text in texts}
    return Known(texts, meaning, members, unlike, set(both_ways), spelled)


def meanings(texts: Sequence[str], alike: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """A number for each text, the same for those that pairs join."""
    above = {text: text for text in texts}

    def top(text: str) -> str:
        while above[text] != text:
            above[text] = above[above[text]]
            text = above[text]
        return text

    for a, b in alike:
        above[top(b)] = top(a)
    numbers = {text: i for i, text in enumerate(texts)}
    return {text: numbers[top(text)] for text in texts}


def words_of(text: str) -> list[str]:
    return [text[a:b].lower() for a, b in words.split(text) if text[a].isalnum()]


def augment(row: Any, resources: Known, params: Params, rng: Random) -> Iterator[Any]:
    """One pair with a text of the row; the row itself if there is none to be made."""
    place = rng.randrange(2)
    text = row.texts[place]
    other, label = None, params.positive
    if params.is_symmetric and rng.random() < params.positive_share:
        other = like(text, resources, rng)
        if other is None and row.label == params.positive:
            yield replace(row, texts=row.texts[::-1])
            return
    if other is None:
        label = params.negative
        other = unlike(text, resources, params, rng)
    if other is None:
        yield row
        return
    yield replace(row, texts=(text, other) if place == 0 else (other, text), label=label)


def like(text: str, known: Known, rng: Random) -> str | None:
    """A text of the same meaning that is not paired with this one, if the rows agree on both."""
    meaning = known.meaning[text]
    if (meaning, meaning) in known.unlike:
        return None
    options = [
        other
        for other in known.members[meaning]
        if other != text and (text, other) not in known.paired
    ]
    return rng.choice(options) if options else None


def unlike(text: str, known: Known, params: Params, rng: Random) -> str | None:
    """A text of another meaning that is not paired with this one; a hard one shares most words."""
    drawn = rng.sample(known.texts, min(params.hard_among, len(known.texts)))
    options = [
        other
        for other in drawn
        if known.meaning[other] != known.meaning[text]
        and (text, other) not in known.paired
        and known.words[other] != known.words[text]  # the same in another case, or nearly
    ]
    if not options:
        return None
    if rng.random() >= params.hard_share:
        return options[0]
    return max(options, key=lambda other: overlap(known.words[text], known.words[other]))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Words in common, of all words of both."""
    return len(one & other) / max(1, len(one | other))
