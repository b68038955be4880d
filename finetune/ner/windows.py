"""Sentences as model inputs: which tokens a window shows and which words it scores.

`sentence`   a window is a sentence
`document`   a window scores neighbouring sentences of up to so many tokens and shows what stands
             before and after them in their document, as much on either side as there is room
A sentence longer than a window becomes windows that overlap. Every word that has a token is scored
in exactly one window: the one that shows most of its context on the poorer side (of windows built
around the sentences they score, that is the window its sentence was built into).

`Window.row` is the first sentence that a window scores. `Window.words` counts on from its first
word through the rows that follow, so that one window can score several; `by_row` takes that apart.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.ner import tags, words
from finetune.ner.tagged_text import Sentence
from finetune.ner.tags import Span
from finetune.task import IGNORED, Window
from finetune.tokenizer import Template, Tokenizer, Tokens


@dataclass(frozen=True)
class Shape:
    """How many tokens windows hold, special ones not counted."""

    capacity: int  # at most
    overlap: int  # of the windows of one long sentence
    shown: int = 0  # with context, where the sentences scored are not longer; 0: no context
    scored: int = 0  # of several sentences that one window scores; a longer one is alone


@dataclass(frozen=True)
class Located:
    """A sentence's tokens, and where its words begin among them."""

    ids: NDArray[np.int32]  # (T,)
    first: NDArray[np.int64]  # (N,) first token of each word that has one
    words: NDArray[np.int64]  # (N,) those words


def windows(
    rows: Sequence[Sentence],
    located: Sequence[Located],
    targets: Sequence[NDArray[np.int64]],
    template: Template,
    shape: Shape,
) -> list[Window]:
    """All windows, in row order; `targets` are label ids of the words that have tokens."""
    before, after = neighbours(rows) if shape.shown else ({}, {})
    found: list[Window] = []
    for group in groups(located, after, shape):
        if not any(len(located[i].words) for i in group):
            continue
        size = sum(len(located[i].ids) for i in group)
        if size > shape.capacity:
            (row,) = group
            found += windows_of_long(row, located[row], targets[row], template, shape)
            continue
        room = max(shape.shown - size, 0)
        left = context(located, before, group[0], room, is_left=True)
        right = context(located, after, group[-1], room, is_left=False)
        num_left = min(len(left), max(room // 2, room - len(right)))
        left = left[len(left) - num_left :]
        right = right[: room - num_left]
        found.append(window_of(group, rows, located, targets, template, left, right))
    return found


def groups(located: Sequence[Located], after: dict[int, int], shape: Shape) -> Iterator[list[int]]:
    """The rows that each window scores: neighbours in their document and in the data set."""
    group: list[int] = []
    size = 0
    for i, sentence in enumerate(located):
        joins = group and after.get(group[-1]) == i and size + len(sentence.ids) <= shape.scored
        if group and not joins:
            yield group
            group, size = [], 0
        group.append(i)
        size += len(sentence.ids)
    if group:
        yield group


def neighbours(rows: Sequence[Sentence]) -> tuple[dict[int, int], dict[int, int]]:
    """The row before each row in its document, and the row after it, for those that have one.

    Of rows at the same place (augmented copies) the first is the neighbour, so that a copy stands
    where its original does.
    """
    at: dict[tuple[int, int], int] = {}
    for i, row in enumerate(rows):
        if row.document is not None:
            at.setdefault((row.document, row.place), i)
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for i, row in enumerate(rows):
        if row.document is None:
            continue
        for step, side in ((-1, before), (1, after)):
            other = at.get((row.document, row.place + step))
            if other is not None:
                side[i] = other
    return before, after


def context(
    located: Sequence[Located], next_row: dict[int, int], row: int, room: int, is_left: bool
) -> NDArray[np.int32]:
    """Up to `room` tokens that lie beside a row in its document."""
    parts: list[NDArray[np.int32]] = []
    size = 0
    while size < room and row in next_row:
        row = next_row[row]
        parts.append(located[row].ids)
        size += len(located[row].ids)
    if not parts:
        return np.zeros(0, dtype=np.int32)
    tokens = np.concatenate(parts[::-1] if is_left else parts)
    return tokens[max(size - room, 0) :] if is_left else tokens[:room]


def window_of(
    group: Sequence[int],
    rows: Sequence[Sentence],
    located: Sequence[Located],
    targets: Sequence[NDArray[np.int64]],
    template: Template,
    left: NDArray[np.int32],
    right: NDArray[np.int32],
) -> Window:
    """One window that scores a group of rows between two contexts."""
    ids = np.concatenate([left, *(located[i].ids for i in group), right])
    input_ids, _, start = template.build(ids)
    start += len(left)
    first_word = 0
    positions, numbers = [], []
    for i in group:
        positions.append(located[i].first + start)
        numbers.append(located[i].words + first_word)
        start += len(located[i].ids)
        first_word += len(rows[i].words)
    return Window(
        group[0],
        input_ids,
        None,
        np.concatenate(positions),
        np.concatenate([targets[i] for i in group]),
        np.concatenate(numbers),
        tuple(len(located[i].words) for i in group),
    )


def targets_of(row: Sentence, located: Located, ids: Mapping[str, int]) -> NDArray[np.int64]:
    """Label ids of a sentence's words that have tokens; IGNORED where the label is none of these.

    An entity begins at its first word with a token, so that the tags are always valid.
    """
    place = np.searchsorted(located.words, np.arange(len(row.words) + 1))
    entities = [
        Span(int(place[entity.start]), int(place[entity.end]), entity.type)
        for entity in row.entities
        if place[entity.start] < place[entity.end]
    ]
    written = tags.iob2(entities, len(located.words))
    return np.array([ids.get(tag, IGNORED) for tag in written], dtype=np.int64)


def windows_of_long(
    row: int, located: Located, targets: NDArray[np.int64], template: Template, shape: Shape
) -> Iterator[Window]:
    """The overlapping windows of a sentence that does not fit into one."""
    length = len(located.ids)
    starts = window_starts(length, shape.capacity, shape.overlap)
    owner = owners(located.first, starts, shape.capacity, length)
    for k, start in enumerate(starts):
        owned = owner == k
        if not owned.any():
            continue
        input_ids, _, offset = template.build(located.ids[start : start + shape.capacity])
        positions = located.first[owned] - start + offset
        yield Window(row, input_ids, None, positions, targets[owned], located.words[owned])


def window_starts(num_tokens: int, capacity: int, overlap: int) -> list[int]:
    """Where windows begin; the last one ends with the text, so all long windows are full."""
    if num_tokens <= capacity:
        return [0]
    stride = capacity - min(overlap, capacity // 2)
    return [*range(0, num_tokens - capacity, stride), num_tokens - capacity]


def owners(
    positions: NDArray[np.int64], starts: Sequence[int], capacity: int, num_tokens: int
) -> NDArray[np.int64]:
    """The window that shows the most context on the poorer side of each position."""
    begin = np.array(starts)[:, None]
    end = np.minimum(begin + capacity, num_tokens)
    left = np.where(begin == 0, num_tokens, positions - begin)  # the text's edges hide nothing
    right = np.where(end == num_tokens, num_tokens, end - 1 - positions)
    inside = (positions >= begin) & (positions < end)
    owner: NDArray[np.int64] = np.where(inside, np.minimum(left, right), -1).argmax(axis=0)
    return owner


@dataclass(frozen=True)
class Outputs:
    """What a model gave for the words of one row that have tokens, in word order."""

    words: NDArray[np.int64]  # (N,)
    scores: NDArray[np.float32]  # (N, L)
    targets: NDArray[np.int64]  # (N,)


def by_row(
    rows: Sequence[Sentence], found: Sequence[Window], logits: Sequence[NDArray[np.float32]]
) -> list[Outputs]:
    """The outputs of every row. Raises AssertionError if a word was scored twice or moved."""
    num_labels = logits[0].shape[1] if logits else 0
    starts = np.cumsum([0, *(len(row.words) for row in rows)])
    place = np.concatenate([starts[w.row] + w.words for w in found] or [starts[:0]])
    order = np.argsort(place, kind="stable")
    place = place[order]
    assert len(np.unique(place)) == len(place), "a word was scored in two windows"
    scores = np.concatenate([*logits, np.zeros((0, num_labels), dtype=np.float32)])[order]
    targets = np.concatenate([*(w.targets for w in found), np.zeros(0, dtype=np.int64)])[order]
    cuts = np.searchsorted(place, starts)
    assert cuts[0] == 0, "a window scores words before the first row"
    assert cuts[-1] == len(place), "a window scores words behind the last row"
    return [
        Outputs(place[a:b] - start, scores[a:b], targets[a:b])
        for start, a, b in zip(starts[:-1], cuts[:-1], cuts[1:], strict=True)
    ]


def locate(rows: Sequence[Sentence], tokenizer: Tokenizer, counts: Counter[str]) -> list[Located]:
    """Every sentence's tokens. A sentence in which a token covers two words is spaced out."""
    is_led = is_space_part_of_words(tokenizer)
    leads = [int(is_led and lacks_space(row.text)) for row in rows]
    texts = [" " * lead + row.text for lead, row in zip(leads, rows, strict=True)]
    found: list[Located] = []
    for row, lead, tokens in zip(rows, leads, tokenizer.tokens(texts), strict=True):
        first, word, is_shared = first_tokens(tokens, np.array(row.offsets, dtype=np.int64) + lead)
        if is_shared:
            counts["sentences_spaced_out"] += 1
            text, offsets = words.join(row.words, spaced=True)
            tokens = tokenizer.tokens([" " * is_led + text])[0]
            first, word, _ = first_tokens(tokens, np.array(offsets, dtype=np.int64) + is_led)
        counts["words_without_tokens"] += len(row.words) - len(word)
        counts["tokens"] += len(tokens.ids)
        found.append(Located(tokens.ids, first, word))
    return found


def is_space_part_of_words(tokenizer: Tokenizer) -> bool:
    """True if a word after a space has other tokens than at the start of a text (byte-level BPE).

    Then sentences get a space before them: nearly all that such an encoder read in pretraining
    stood behind one, and the first word of a sentence would be cut into other, rarer tokens.
    """
    plain, spaced = (found.ids.tolist() for found in tokenizer.tokens(["a a", " a a"]))
    half = len(spaced) // 2
    return bool(plain != spaced and spaced[:half] == spaced[half:])


def lacks_space(text: str) -> bool:
    """True if a text begins with a word of a script that has spaces between words."""
    return bool(text) and not text[0].isspace() and not words.is_unspaced(text[0])


def first_tokens(
    tokens: Tokens, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """First token of each word that has one, those words, and whether a token covers two words."""
    places = places.reshape(-1, 2)
    starts, ends = tokens.offsets[:, 0], tokens.offsets[:, 1]
    first_word = np.searchsorted(places[:, 1], starts, side="right")  # first that ends after it
    last_word = np.searchsorted(places[:, 0], ends, side="left") - 1  # last that begins before it
    covers = np.flatnonzero((first_word <= last_word) & (starts < ends))
    word, index = np.unique(first_word[covers], return_index=True)
    is_shared = bool((last_word[covers] > first_word[covers]).any())
    return covers[index], word, is_shared
