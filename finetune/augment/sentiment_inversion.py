"""Sentiment inversion: every word that carries a text's sentiment turned round, and its label too.

A word carries sentiment if it is in the user's lexicon of opposites or, with WordNet, if it is an
adjective that stands more often in training rows of one of the two labels (`min_lean`). If it is
negated the negation goes ("not very good" becomes "very good", "isn't" becomes "is"), else it gives
way to an opposite, best one that leans to the other label; if there is none, "is" and its forms
before it get a "not". Rows in which nothing can be turned give no copy. What the words do not say
(irony, comparison) stays, so a part of the labels is wrong: see `filter_model`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from data_prep.augment.synonyms import changed
from finetune.augmentation import antonyms, edits, lexicon
from finetune.augmentation.augmenting import Augmentation
from finetune.augmentation.edits import Word
from finetune.augmentation.lexicon import WORDNET, Lexicon
from runtime.config import Share
from runtime.errors import DataError

FITS = ("sequence",)

COPULAS = frozenset({
    "is", "are", "was", "were", "be", "been", "being", "am", "seems", "seemed", "looks", "looked",
    "feels", "felt",
})  # fmt: skip
INFINITIVES = frozenset({"be", "been", "being"})
# What may stand between these, or a negation, and the word they are about.
BETWEEN = frozenset({
    "a", "an", "very", "so", "that", "too", "really", "quite", "all", "even", "at", "particularly",
    "especially", "entirely", "exactly", "as",
})  # fmt: skip
SHORT_NOT = re.compile(r"(.+)n['’]t$", re.IGNORECASE)
IRREGULAR = {"ca": "can", "wo": "will", "sha": "shall"}
SMOOTHING = 2  # rows added to each count: at 0.75 a word must be met four times in one class alone


class Params(Augmentation):
    """Turns sentiment words round and flips the label."""

    kind: Literal["sentiment_inversion"] = "sentiment_inversion"
    labels: dict[str, str] = Field(
        default_factory=lambda: {"positive": "negative", "negative": "positive"}
    )  # the label of an inverted row by the row's label; other rows give no copy
    lexicon: Path | None = None  # TSV: word <tab> opposite[,opposite...]; None: WordNet
    wordnet: str = WORDNET  # folder of index.adj and data.adj (Debian: wordnet-base)
    min_lean: Share = 0.75  # WordNet: share of a word in rows of its label, classes made equal
    negations: tuple[str, ...] = ("not", "never")  # words that turn the next one round

    @model_validator(mode="after")
    def labels_are_opposed(self) -> Self:
        wrong = [label for label, other in self.labels.items() if self.labels.get(other) != label]
        if wrong or not self.labels or any(a == b for a, b in self.labels.items()):
            raise ValueError(
                f"labels must name each label's opposite both ways, such as {{ good = 'bad', "
                f"bad = 'good' }}; given {self.labels}"
            )
        return self


@dataclass(frozen=True)
class Opposites:
    """Words that carry sentiment."""

    terms: Lexicon  # with their opposites
    is_turnable: Callable[[str, str], bool]  # can a word be turned, if it says this label?
    lean: Callable[[str, str], float]  # of a word to a label


def inputs(params: Params) -> list[Path]:
    if params.lexicon is not None:
        return [params.lexicon]
    return antonyms.files(Path(params.wordnet))


def prepare(train: Sequence[Any], task: Any, params: Params) -> Opposites:
    """Raises DataError if no row has one of the labels, or if rows are pairs."""
    met = Counter(row.label for row in train if isinstance(row.label, str))
    missing = [label for label in params.labels if label not in met]
    if missing:
        raise DataError(
            f"sentiment_inversion: no training row has the label {missing[0]!r}; they have "
            f"{', '.join(map(repr, sorted(met))) or 'none'}: set `labels` to two of them"
        )
    if any(len(row.texts) > 1 for row in train):
        raise DataError("sentiment_inversion is for single texts; these rows are pairs")
    lean = leaning(train, params)
    if params.lexicon is not None:
        terms = lexicon.opened(params.lexicon, params.wordnet)
        return Opposites(terms, lambda term, label: True, lean)
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # late: takes a second

    opposites = antonyms.opened(Path(params.wordnet))

    def known(term: str) -> Sequence[str]:  # itself, if it is an adjective without an opposite
        word = term.lower()
        if word in ENGLISH_STOP_WORDS:  # "after" is an adjective too
            return ()
        return opposites.of(word) or ([word] if word in opposites.first else [])

    def is_turnable(term: str, label: str) -> bool:
        return lean(term, label) >= params.min_lean

    return Opposites(Lexicon(known, 1), is_turnable, lean)


def leaning(train: Sequence[Any], params: Params) -> Callable[[str, str], float]:
    """How much of a word's use is in rows of a label, beside rows of its opposite; both classes
    count the same."""
    sizes: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for row in train:
        if row.label in params.labels:
            sizes[row.label] += 1
            met = {word.text.lower() for word in edits.words_of_text(row.texts[0])}
            counts.update((word, row.label) for word in met)

    def lean(word: str, label: str) -> float:
        here, there = (
            (counts[word.lower(), kind] + SMOOTHING) / sizes[kind]
            for kind in (label, params.labels[label])
        )
        return here / (here + there)

    return lean


def augment(row: Any, resources: Opposites, params: Params, rng: Random) -> Iterator[Any]:
    """One copy with the other label; none if nothing in the row can be turned."""
    if row.label not in params.labels:
        return

    def change(text: list[Word]) -> list[Word]:
        for start, end in reversed(lexicon.terms(text, resources.terms, in_mentions=False)):
            if lexicon.spelled(text[start:end]).lower() not in BETWEEN:
                text = turned(text, start, end, row.label, resources, params, rng)
        return text

    found = edits.edited(row, rng, change)
    if found is not row:
        yield replace(found, label=params.labels[row.label])


def turned(
    text: list[Word],
    start: int,
    end: int,
    label: str,
    resources: Opposites,
    params: Params,
    rng: Random,
) -> list[Word]:
    """The words with the term at a place turned round, if it says the label."""
    term = lexicon.spelled(text[start:end])
    other = params.labels[label]
    negation = word_before(text, start, BETWEEN | INFINITIVES)
    if negation is not None and is_negation(text[negation].text, params):
        is_meant = resources.is_turnable(term, other)
        return without_negation(text, negation) if is_meant else text
    if not resources.is_turnable(term, label):
        return text
    is_user = params.lexicon is not None
    options = [word for word in resources.terms.lookup(term) if word.lower() != term.lower()]
    leaning_well = [word for word in options if resources.lean(word, other) >= params.min_lean]
    if leaning_well or (is_user and options):
        return with_opposite(text, start, end, leaning_well or options, rng)
    copula = word_before(text, start, BETWEEN)
    if copula is not None and text[copula].text.lower() in COPULAS:
        return edits.inserted(text, copula + 1, [Word("not")])
    options = [word for word in options if resources.lean(word, label) < params.min_lean]
    return with_opposite(text, start, end, options, rng) if options else text


def word_before(text: Sequence[Word], place: int, skipped: frozenset[str]) -> int | None:
    """The nearest word before a place that is not one of these."""
    return next((i for i in reversed(range(place)) if text[i].text.lower() not in skipped), None)


def is_negation(word: str, params: Params) -> bool:
    return word.lower() in params.negations or SHORT_NOT.match(word) is not None


def without_negation(text: list[Word], place: int) -> list[Word]:
    """The words without the negation at a place."""
    word = text[place]
    found = SHORT_NOT.match(word.text)
    if found:
        stem = IRREGULAR.get(found[1].lower(), found[1])
        return [*text[:place], replace(word, text=stem), *text[place + 1 :]]
    after = replace(text[place + 1], gap=word.gap)
    if word.text[0].isupper():
        after = replace(after, text=after.text[0].upper() + after.text[1:])
    return [*text[:place], after, *text[place + 2 :]]


def with_opposite(
    text: list[Word], start: int, end: int, options: Sequence[str], rng: Random
) -> list[Word]:
    """The words with one of the opposites in place of a term, and the article that goes with it."""
    new = changed(lexicon.spelled(text[start:end]), lambda _: options, rng)
    found = edits.replaced(text, start, end, new)
    if start and found[start - 1].text.lower() in ("a", "an"):
        old = found[start - 1]
        article = old.text[0] + ("n" if new[0].lower() in "aeiou" else "")
        found[start - 1] = replace(old, text=article)
    return found
