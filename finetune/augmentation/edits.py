"""A labelled row as words that can be changed, and the changed words as a row again.

A row is a tagged sentence, or one or two texts with a label. A word carries the white space before
it and the entity it is part of, so whatever an operation does to a list of words, the row made of
it has entities that begin and end where words do. A sentence that came as words becomes one of
words, a sentence that came as text is cut into words again as reading would cut it; of a pair one
text is changed. Labels of texts are not touched here.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from random import Random
from typing import Any

from finetune.ner import tagged_text, words
from finetune.ner.tagged_text import Sentence
from finetune.ner.tags import Span

CHARACTER = "[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in words.UNSPACED) + "]"
PIECE = re.compile(f"{CHARACTER}|(?:(?!{CHARACTER})\\S)+")
# What joins two parts of one word in texts that are not tagged: don't, well-known.
GLUE = re.compile(r"(?<=[^\W\d_])['’-](?=[^\W\d_])")


@dataclass(frozen=True)
class Word:
    """A word of a row."""

    text: str
    gap: str = " "  # white space before it; of the first word it is the row's
    mention: int | None = None  # which of the row's entities it is part of; None: of none


Change = Callable[[list[Word]], list[Word]]


def edited(row: Any, rng: Random, change: Change) -> Any:
    """The row with changed words; the same row if nothing was changed."""
    if isinstance(row, Sentence):
        before = words_of(row)
        after = change(before)
        return row if after == before else sentence_of(row, after)
    place = rng.randrange(len(row.texts)) if len(row.texts) > 1 else 0
    text = row.texts[place]
    before = words_of_text(text)
    after = change(before)
    if after == before:
        return row
    changed = text_of(after, lead_of(text), tail_of(text))[0]
    return replace(row, texts=(*row.texts[:place], changed, *row.texts[place + 1 :]))


def words_of(row: Sentence) -> list[Word]:
    """The words of a sentence, with the entities they are part of."""
    mentions: list[int | None] = [None] * len(row.words)
    for number, entity in enumerate(row.entities):
        for i in range(entity.start, entity.end):
            mentions[i] = number
    gaps = gaps_of(row.text, row.offsets)
    return [Word(*found) for found in zip(row.words, gaps, mentions, strict=True)]


def words_of_text(text: str) -> list[Word]:
    """The words of a text; unlike those of a sentence, they keep apostrophes and hyphens."""
    offsets: list[tuple[int, int]] = []
    for start, end in words.split(text):
        is_joined = GLUE.match(text, start) or GLUE.match(text, start - 1) if start else None
        if is_joined and offsets:
            offsets[-1] = (offsets[-1][0], end)
        else:
            offsets.append((start, end))
    gaps = gaps_of(text, offsets)
    return [Word(text[a:b], gap) for (a, b), gap in zip(offsets, gaps, strict=True)]


def gaps_of(text: str, offsets: Sequence[tuple[int, int]]) -> list[str]:
    """What stands before each word."""
    ends = [0, *(end for _, end in offsets)]
    return [text[end:start] for end, (start, _) in zip(ends, offsets, strict=False)]


def lead_of(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def tail_of(text: str) -> str:
    return text[len(text.rstrip()) :]


def sentence_of(
    row: Sentence, changed: Sequence[Word], types: Sequence[str] | None = None
) -> Sentence:
    """A sentence of changed words, with the types of the row's entities, or these of others."""
    kinds = [entity.type for entity in row.entities] if types is None else types
    runs = mentions_of(changed)
    if comes_as_words(row):
        spans = [Span(first, last, kinds[number]) for number, first, last in runs]
        found = tagged_text.from_words([word.text for word in changed], spans, row.line)
    else:
        text, offsets = text_of(changed, lead_of(row.text), tail_of(row.text))
        characters = [
            Span(offsets[first][0], offsets[last - 1][1], kinds[number])
            for number, first, last in runs
        ]
        plain = tagged_text.from_text(text, [], row.line)
        spans = tagged_text.word_spans(plain.offsets, characters, Counter())
        found = replace(plain, entities=tuple(spans))
    return replace(
        row, words=found.words, text=found.text, offsets=found.offsets, entities=found.entities
    )


def comes_as_words(row: Sentence) -> bool:
    """True for a sentence whose text is nothing but its words, joined."""
    return words.join(row.words)[0] == row.text


def rewritten(row: Sentence, parts: Sequence[tuple[str, str | None]]) -> Sentence:
    """A sentence of another text in the manner of the row; each part is an entity of its type or,
    without one, outside of all. White space at the ends of an entity is put outside."""
    new: list[Word] = []
    types: list[str] = []
    gap = ""
    for text, kind in parts:
        offsets = pieces(text) if comes_as_words(row) else words.split(text)
        number = None if kind is None else len(types)
        for (start, end), between in zip(offsets, gaps_of(text, offsets), strict=True):
            new.append(Word(text[start:end], gap + between, number))
            gap = ""
        types += [] if kind is None else [kind]
        gap += text[offsets[-1][1] :] if offsets else text
    return sentence_of(row, new, types)


def pieces(text: str) -> list[tuple[int, int]]:
    """Words as white space gives them, each character of a script without spaces by itself."""
    return [match.span() for match in re.finditer(PIECE, text)]


def mentions_of(changed: Sequence[Word]) -> list[tuple[int, int, int]]:
    """Of every mention its entity's number, its first word and the one after its last."""
    found = []
    place = 0
    for number, run in groupby(changed, lambda word: word.mention):
        size = len(list(run))
        if number is not None:
            found.append((number, place, place + size))
        place += size
    assert len({number for number, _, _ in found}) == len(found), "a mention was split"
    return found


def text_of(changed: Sequence[Word], lead: str, tail: str) -> tuple[str, list[tuple[int, int]]]:
    """Words as a text and where each lies in it; words that would run into one get a space."""
    parts = [lead]
    offsets: list[tuple[int, int]] = []
    length = len(lead)
    for i, word in enumerate(changed):
        gap = word.gap if i else ""
        if i and not gap and words.role(changed[i - 1].text[-1]) == words.role(word.text[0]) == 1:
            gap = " "
        parts += [gap, word.text]
        start = length + len(gap)
        length = start + len(word.text)
        offsets.append((start, length))
    return "".join([*parts, tail]), offsets


def free(changed: Sequence[Word]) -> list[int]:
    """The words with a letter that are part of no mention."""
    return [i for i in lettered(changed) if changed[i].mention is None]


def lettered(changed: Sequence[Word]) -> list[int]:
    """The words with a letter."""
    return [i for i, word in enumerate(changed) if any(map(str.isalpha, word.text))]


def borders(changed: Sequence[Word]) -> list[int]:
    """Before which words one can be put in without splitting a mention; the end is one too."""
    return [
        i
        for i in range(len(changed) + 1)
        if not 0 < i < len(changed)
        or changed[i].mention is None
        or changed[i].mention != changed[i - 1].mention
    ]


def inserted(changed: Sequence[Word], place: int, new: Sequence[Word]) -> list[Word]:
    """The words with others put in before one of them, after a space if the script has any."""
    first, *others = new
    after = list(changed[place:])
    if place:
        first = replace(first, gap=gap_between(changed[place - 1].text, first.text))
    elif after:  # its gap was the row's
        after[0] = replace(after[0], gap=gap_between(new[-1].text, after[0].text))
    return [*changed[:place], first, *others, *after]


def replaced(changed: Sequence[Word], start: int, end: int, text: str) -> list[Word]:
    """The words with those from `start` to `end` replaced by a text, which stays in their
    mention."""
    old = changed[start:end]
    is_by_character = all(len(word.text) == 1 and words.is_unspaced(word.text) for word in old)
    parts = [text[a:b] for a, b in words.split(text)] if is_by_character else text.split()
    new = as_words(parts, old[0].gap, old[0].mention)
    return [*changed[:start], *new, *changed[end:]]


def as_words(parts: Sequence[str], gap: str, mention: int | None) -> list[Word]:
    """Words for a place in a row; the first one gets this gap."""
    gaps = [gap, *(gap_between(a, b) for a, b in pairwise(parts))]
    return [Word(part, between, mention) for part, between in zip(parts, gaps, strict=True)]


def gap_between(before: str, after: str) -> str:
    """None between two characters of scripts without spaces, else a space."""
    return "" if words.is_unspaced(before[-1]) and words.is_unspaced(after[0]) else " "


def labels_of(row: Any) -> list[str]:
    """The names of a text's labels: one, several, or none if it is a number or not known."""
    if isinstance(row.label, str):
        return [row.label]
    return list(row.label) if isinstance(row.label, tuple) else []
