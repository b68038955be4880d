"""Gopher's repetition rules: does a text say the same thing over and over?

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher", table A1 (arXiv 2112.11446); the defaults are its thresholds. A document is dropped by the
first share that is greater than its threshold, in the order of the fields; 1.0 switches a rule off.

Where the paper leaves a choice: a copy is an occurrence after the first; lines and paragraphs are
compared without white space around them; characters are those of words, white space is none; the
top n-gram is the most frequent one (of several the longest) that occurs at least twice, every
occurrence counted in full, at most the whole text; characters in several duplicate n-grams count
once. In mostly unspaced text (see `data_prep.facts`) n-grams are of 2n characters, for n words.

N-grams are compared by a polynomial hash of the words' 64-bit hashes, wrapping: in a text of a
million words two different ones are taken for equal with a chance below 1 : 10^7. Most texts need
two sorts of such hashes: few copies of short n-grams bound what the longer ones can come to (the
words of a copied n+1-gram are words of copied n-grams).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_prep.cleaning import Share, Step
from data_prep.documents import Document, Reject, drop
from data_prep.facts import Facts, copies, facts_of

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: no information is shifted out
SLOT_BITS = 16

Hashes = NDArray[np.uint64]
Counts = NDArray[np.int64]


class Params(Step):
    """Gopher's shares of repeated lines, paragraphs and n-grams. Rae et al. 2021, table A1."""

    step: str = "repetition"
    duplicate_lines: Share = 0.30  # share of lines
    duplicate_paragraphs: Share = 0.30  # share of paragraphs
    duplicate_line_characters: Share = 0.20  # share of characters, as in all that follow
    duplicate_paragraph_characters: Share = 0.20  # share of characters in copies of paragraphs
    top_2gram: Share = 0.20  # share of characters in the most frequent 2-gram
    top_3gram: Share = 0.18  # share of characters in the most frequent 3-gram
    top_4gram: Share = 0.16  # share of characters in the most frequent 4-gram
    duplicate_5grams: Share = 0.15  # share of characters in 5-grams that occur before
    duplicate_6grams: Share = 0.14  # share of characters in 6-grams that occur before
    duplicate_7grams: Share = 0.13  # share of characters in 7-grams that occur before
    duplicate_8grams: Share = 0.12  # share of characters in 8-grams that occur before
    duplicate_9grams: Share = 0.11  # share of characters in 9-grams that occur before
    duplicate_10grams: Share = 0.10  # share of characters in 10-grams that occur before


def clean(document: Document, params: Params) -> Document | Reject:
    """The same document, or a reject that names the rule."""
    facts = facts_of(document)
    reason = of_lines(facts, params) or of_ngrams(facts, params)
    return document if reason is None else drop(document, f"repetition: {reason}")


def of_lines(facts: Facts, params: Params) -> str | None:
    lines, line_characters = facts.copied_lines
    if lines > params.duplicate_lines:
        return f"more than {params.duplicate_lines:g} of lines are copies"
    paragraphs = list(filter(None, map(str.strip, facts.text.split("\n\n"))))
    share, characters = copies(paragraphs)
    if share > params.duplicate_paragraphs:
        return f"more than {params.duplicate_paragraphs:g} of paragraphs are copies"
    if line_characters > params.duplicate_line_characters:
        return f"more than {params.duplicate_line_characters:g} of text is in copied lines"
    if characters > params.duplicate_paragraph_characters:
        return (
            f"more than {params.duplicate_paragraph_characters:g} of text is in copied paragraphs"
        )
    return None


def of_ngrams(facts: Facts, params: Params) -> str | None:
    if len(facts.words) < 3:  # nothing can occur twice
        return None
    stretch = 2 if facts.is_unspaced else 1
    ends = np.zeros(len(facts.words) + 1, np.int64)  # characters up to each word
    np.cumsum(facts.word_lengths, out=ends[1:])
    top = {n: getattr(params, f"top_{n}gram") for n in (2, 3, 4)}
    duplicate = {n: getattr(params, f"duplicate_{n}grams") for n in range(5, 11)}
    # So few occurrences stay within the limits, however long the n-gram.
    harmless = max(2, int(min(top.values()) / widest_share(ends, 4 * stretch)))
    for size, hashes in windows(facts.word_hashes, 10 * stretch):
        n, rest = divmod(size, stretch)
        if rest == 0 and n in top:
            ordered = np.sort(hashes)
            if not occurs(ordered, harmless):
                top.clear()  # nor do longer ones occur more often
            elif top_share(hashes, ordered, size, ends, top[n]) > top[n]:
                return f"more than {top[n]:g} of text is the top {n}-gram"
        elif rest == 0 and n in duplicate:
            least = min(duplicate.values())
            share = duplicate_share(hashes, size, ends, least)
            if share > duplicate[n]:
                return f"more than {duplicate[n]:g} of text is in copied {n}-grams"
            if share <= least:
                return None
            del duplicate[n]
    return None


def widest_share(ends: Counts, size: int) -> float:
    """The share of characters in the longest n-gram of that many words."""
    if len(ends) <= size:
        return 1.0
    return int((ends[size:] - ends[:-size]).max()) / int(ends[-1])


def windows(hashes: Hashes, longest: int) -> Iterator[tuple[int, Hashes]]:
    """Sizes from 1, and the hash of every window of that many words; as long as two fit."""
    window = hashes
    for size in range(1, min(longest, len(hashes) - 1) + 1):
        if size > 1:
            window = window[:-1] * MULTIPLIER + hashes[size - 1 :]
        yield size, window


def occurs(ordered: Hashes, times: int) -> bool:
    """Whether one of the sorted hashes occurs so often, at least."""
    if times > len(ordered):
        return False
    return bool((ordered[times - 1 :] == ordered[: len(ordered) - times + 1]).any())


def top_share(hashes: Hashes, ordered: Hashes, size: int, ends: Counts, limit: float) -> float:
    """The share of characters in the most frequent n-gram that occurs at least twice; or a bound,
    if that is within the limit. `ordered`: the hashes, sorted."""
    firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    counts = np.diff(firsts, append=len(ordered))
    most = int(counts.max())
    bound = most * widest_share(ends, size)
    if most < 2 or bound <= limit:
        return 0.0 if most < 2 else bound
    is_top = np.isin(hashes, ordered[firsts[counts == most]])
    widths = ends[size:] - ends[:-size]  # (W - size + 1,) characters
    # At most all of it: "a a a" is two 2-grams of two characters.
    return min(1.0, most * int(widths[is_top].max()) / int(ends[-1]))


def duplicate_share(hashes: Hashes, size: int, ends: Counts, limit: float) -> float:
    """The share of characters in n-grams that occurred before; 0 if it is surely within limit."""
    ordered = np.sort(hashes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    total, widths = int(ends[-1]), ends[size:] - ends[:-size]
    if len(again) * int(widths.max()) <= limit * total:
        return 0.0
    # Only the few windows that share a slot with a repeated one are sorted with their places.
    shift = np.uint64(64 - SLOT_BITS)
    slots = np.zeros(1 << SLOT_BITS, np.bool_)
    slots[again >> shift] = True
    places = np.flatnonzero(slots[hashes >> shift])
    places = places[np.argsort(hashes[places], kind="stable")]
    found = hashes[places]
    copied = places[1:][found[1:] == found[:-1]]
    depth = np.zeros(len(ends), np.int32)  # of copied windows around each word
    depth[copied] += 1
    depth[copied + size] -= 1
    is_covered = np.cumsum(depth[:-1]) > 0
    return int((ends[1:] - ends[:-1])[is_covered].sum()) / total
