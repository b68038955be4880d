"""Entities and tags: read any common tag scheme, write IOB2, decode scores into valid tags.

A tag is `O` or PREFIX-TYPE, split at the first '-', so types may contain '-' and '.'. One reading
covers IOB1, IOB2, IOBES, BILOU and BMES, because in all of them an entity begins at B, S or U, or
where a tag's type differs from the entity before it, and ends after E, L, S or U. Read as IOB2,
IOB1 files lose every entity that begins with I; so the scheme that is met is named, never assumed.
Known limit: files that write one-word entities as I and others as B I (BC5CDR as SciBERT ships it)
are read as `mixed_iob`, where two neighbouring one-word entities of one type become one, as in
every published score on that copy. Files whose prefixes belong to no one scheme are refused; single
tags that break the scheme of their file are read by the rule above and counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

OUTSIDE = "O"
# nats: the score of a transition that is not allowed, in JSON; a CRF neither trains nor reaches it
FORBIDDEN = -1e4
BEGINS = frozenset("BSU")
ENDS = frozenset("ELSU")
PREFIXES = frozenset("BIESMLU")
OPENS = frozenset("BIM")  # in a scheme with ends: more of the entity follows
CONTINUES = frozenset("IMEL")
CLOSED = ("iobes", "bilou", "bmes")  # schemes that mark where an entity ends


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
    bmes or none (no entity). Raises ValueError at prefixes that no scheme has together."""
    met = Counter[str]()
    begun = Counter[str]()  # prefixes of the first tags of entities that follow none of their type
    for tags in sequences:
        before = ""
        for tag in tags:
            prefix, kind = split_tag(tag) or ("", "")
            met[prefix] += 1
            begun[prefix] += kind != before
            before = kind
    for some, others in (("ES", "LU"), ("M", "ILU")):
        if any(met[x] for x in some) and any(met[x] for x in others):
            shown = ", ".join(f"{met[x]:,} of {x}-" for x in sorted(PREFIXES) if met[x])
            raise ValueError(
                f"its tags mix schemes ({shown}): {some} and {others} are never used together; "
                "write them in one of IOB1, IOB2, IOBES, BILOU, BMES"
            )
    for name, prefixes in (("bmes", "M"), ("bilou", "LU"), ("iobes", "ES")):
        if any(met[x] for x in prefixes):
            return name
    if begun["I"]:
        return "mixed_iob" if begun["B"] else "iob1"
    return "iob2" if met["B"] else "none"


def breaks(tags: Sequence[str], name: str) -> int:
    """Places where tags break their scheme: of one with ends, an entity that does not begin or end
    as it must; of `mixed_iob`, an I that begins an entity as IOB2 does not."""
    if name not in (*CLOSED, "mixed_iob"):
        return 0
    found = 0
    before = ("", "")
    for tag in (*tags, OUTSIDE):
        prefix, kind = split_tag(tag) or ("", "")
        goes_on = prefix in CONTINUES
        if name in CLOSED:
            must_go_on = before[0] in OPENS
            found += goes_on != must_go_on or (goes_on and kind != before[1])
        else:
            found += goes_on and kind != before[1]
        before = (prefix, kind)
    return found


def tag_set(types: Iterable[str]) -> list[str]:
    """The IOB2 tags of these entity types, in the order of a model's outputs."""
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(set(types)) for prefix in "BI")]


def transitions(labels: Sequence[str]) -> dict[str, Any]:
    """What IOB2 allows, as scores: 0.0, or FORBIDDEN. Lists by "start" (of a sentence's first tag),
    "between" (row: the tag before, column: the tag after) and "end"."""

    def score(before: str, after: str) -> float:
        goes_on = before[2:] == after[2:] and before != OUTSIDE
        return FORBIDDEN if after.startswith("I-") and not goes_on else 0.0

    return {
        "start": [score(OUTSIDE, after) for after in labels],
        "between": [[score(before, after) for after in labels] for before in labels],
        "end": [0.0] * len(labels),
    }
