"""Entities and tags: read any common tag scheme, write IOB2, decode scores into valid tags.

A tag is `O` or PREFIX-TYPE, split at the first '-', so types may contain '-' and '.'. One reading
covers IOB1, IOB2, IOBES, BILOU and BMES, because in all of them an entity begins at B, S or U, or
where a tag's type differs from the entity before it, and ends after E, L, S or U. Read as IOB2,
IOB1 files lose every entity that begins with I; so the scheme that is met is named, never assumed.
Known limit: files that write one-word entities as I and others as B I (BC5CDR as SciBERT ships it)
are read as `mixed_iob`, where two neighbouring one-word entities of one type become one, as in
every published score on that copy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"
BEGINS = frozenset("BSU")
ENDS = frozenset("ELSU")
PREFIXES = frozenset("BIESMLU")


@dataclass(frozen=True)
class Span:
    """An entity: words `start` up to, not including, `end`."""

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str] | None:
    """Prefix and type of a tag, None for outside. Raises ValueError if it is no tag."""
    if tag == OUTSIDE:
        return None
    prefix, hyphen, kind = tag.partition("-")
    if prefix not in PREFIXES or not hyphen or not kind:
        raise ValueError(
            f"{tag!r} is not a tag: expected O or PREFIX-TYPE with a prefix of "
            f"{', '.join(sorted(PREFIXES))}, such as B-PER"
        )
    return prefix, kind


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities of a tag sequence in any scheme, in order. Raises ValueError at a bad tag."""
    found: list[Span] = []
    start, kind = 0, ""  # of the entity that is open; no type: none is
    for i, tag in enumerate(tags):
        parts = split_tag(tag)
        prefix, tag_kind = parts or ("", "")
        if kind and (prefix in BEGINS or tag_kind != kind):
            found.append(Span(start, i, kind))
            kind = ""
        if tag_kind and not kind:
            start, kind = i, tag_kind
        if prefix in ENDS:
            found.append(Span(start, i + 1, kind))
            kind = ""
    if kind:
        found.append(Span(start, len(tags), kind))
    return found


def iob2(entities: Iterable[Span], num_words: int) -> list[str]:
    """Tags of entities that do not overlap."""
    tags = [OUTSIDE] * num_words
    for entity in entities:
        tags[entity.start] = f"B-{entity.type}"
        for i in range(entity.start + 1, entity.end):
            tags[i] = f"I-{entity.type}"
    return tags


def scheme(sequences: Iterable[Sequence[str]]) -> str:
    """Name the scheme of a file: iob2, iob1, mixed_iob (both kinds of beginning), iobes, bilou,
    bmes or none (no entity)."""
    prefixes: set[str] = set()
    begun_by_i = begun_by_b = False
    for tags in sequences:
        before = ""
        for tag in tags:
            prefix, kind = split_tag(tag) or ("", "")
            prefixes.add(prefix)
            begun_by_i |= prefix == "I" and kind != before
            begun_by_b |= prefix == "B" and kind != before
            before = kind
    if "M" in prefixes:
        return "bmes"
    if prefixes & {"L", "U"}:
        return "bilou"
    if prefixes & {"E", "S"}:
        return "iobes"
    if begun_by_i:
        return "mixed_iob" if begun_by_b else "iob1"
    return "iob2" if "B" in prefixes else "none"


def tag_set(types: Iterable[str]) -> list[str]:
    """The IOB2 tags of these entity types, in the order of a model's outputs."""
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(set(types)) for prefix in "BI")]


def allowed_transitions(labels: Sequence[str]) -> NDArray[np.bool_]:
    """(L + 1, L): may the column's tag follow the row's; the last row is the beginning."""
    allowed = np.ones((len(labels) + 1, len(labels)), dtype=bool)
    for j, label in enumerate(labels):
        if label.startswith("I-"):
            before = [f"B-{label[2:]}", label]
            allowed[:, j] = [name in before for name in labels] + [False]
    return allowed


def decode(scores: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The valid tag sequence with the highest sum of scores (N, L), by Viterbi's algorithm."""
    best: NDArray[np.int64] = scores.argmax(axis=1)
    before = np.concatenate(([len(allowed) - 1], best[:-1]))
    if allowed[before, best].all():
        return best  # the best of all sequences is valid, so it is the best valid one
    penalties = np.where(allowed, 0.0, -np.inf)
    total = scores[0].astype(np.float64) + penalties[-1]
    pointers = np.zeros(scores.shape, dtype=np.int64)
    for n in range(1, len(scores)):
        paths = total[:, None] + penalties[:-1]
        pointers[n] = paths.argmax(axis=0)
        total = paths.max(axis=0) + scores[n]
    best[-1] = total.argmax()
    for n in range(len(scores) - 1, 0, -1):
        best[n - 1] = pointers[n, best[n]]
    return best
