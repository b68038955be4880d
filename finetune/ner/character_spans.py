"""Entities as spans of characters: their layouts, and where a span's `end` points.

list      [{"start": 0, "end": 3, "label": "PER"}, ...], in each a `text` if the file has one
mentions  {"PER": {"Ada": [[0, 2], ...]}, ...}, as in CLUENER

Whether `end` is the last character (inclusive) or the one behind it (exclusive) is the recipe's
`span_end`; "auto" asks the spans. A span votes if only one of the two is possible for it: it lies
in its text, its characters are the text that it names, or, where none is named, it begins and ends
where words do. (In scripts without spaces every character is a word, so few spans vote.) 95 % of
the votes decide; fewer, or no vote at all, is an error.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.ner import words
from finetune.ner.tags import Span
from runtime.errors import DataError

SURE = 0.95  # of the votes
ENDS = {"exclusive": 0, "inclusive": 1}  # what is added to `end` to make it exclusive


@dataclass(frozen=True)
class Written:
    """A span as its file has it."""

    start: int
    end: int
    label: str
    text: str | None = None  # the characters it says it covers


@dataclass(frozen=True)
class Annotated:
    """A text and its spans."""

    line: int
    text: str
    spans: tuple[Written, ...]


def written(value: Any, path: Path, line: int) -> tuple[Written, ...]:
    """Spans in either layout. Raises DataError at anything else."""
    if isinstance(value, dict):
        return tuple(of_mentions(value, path, line))
    if not isinstance(value, list):
        raise DataError(
            f"{path}:{line}: spans must be a list of {{start, end, label}} or an object "
            f"{{label: {{mention: [[start, end]]}}}}, given {value!r}"
        )
    return tuple(of_list(value, path, line))


def of_list(value: list[Any], path: Path, line: int) -> Iterator[Written]:
    for given in value:
        try:
            found = Written(given["start"], given["end"], given["label"], given.get("text"))
        except (TypeError, KeyError, AttributeError):
            raise DataError(
                f"{path}:{line}: a span must be {{start, end, label}}, given {given!r}"
            ) from None
        yield checked(found, path, line)


def of_mentions(value: dict[str, Any], path: Path, line: int) -> Iterator[Written]:
    for label, mentions in value.items():
        try:
            for mention, places in mentions.items():
                for start, end in places:
                    yield checked(Written(start, end, label, mention), path, line)
        except (TypeError, ValueError, AttributeError):
            raise DataError(
                f"{path}:{line}: label {label!r} must be {{mention: [[start, end]]}}, "
                f"given {mentions!r}"
            ) from None


def checked(span: Written, path: Path, line: int) -> Written:
    numbers = (span.start, span.end)
    if any(type(number) is not int for number in numbers) or not (
        isinstance(span.label, str) and span.label
    ):
        raise DataError(
            f"{path}:{line}: span {span} needs whole numbers as start and end, and a label"
        )
    return span


def ends_of(texts: Sequence[Annotated], path: Path) -> str:
    """What `end` of a file's spans points at. Raises DataError if the spans do not say."""
    votes = Counter[str]()
    for row in texts:
        borders = None
        for span in row.spans:
            possible = [name for name in ENDS if problem(row, span, name) is None]
            if len(possible) == 2 and span.text is None:
                borders = borders or borders_of(row.text)
                possible = [name for name in ENDS if is_of_words(span, name, *borders)]
            if len(possible) == 1:
                votes[possible[0]] += 1
            elif not possible and all(problem(row, span, name) for name in ENDS):
                raise DataError(f"{path}:{row.line}: {problem(row, span, 'exclusive')}")
    total = sum(votes.values())
    name = max(ENDS, key=lambda name: votes[name])
    if not any(row.spans for row in texts) or (total and votes[name] >= SURE * total):
        return name
    raise DataError(
        f"{path}: cannot tell whether `end` of its spans is the last character or the one behind "
        f"it: {votes['exclusive']:,} spans fit only the latter, {votes['inclusive']:,} only the "
        'former; set span_end to "exclusive" (text[start:end] is the entity) or "inclusive"'
    )


def borders_of(text: str) -> tuple[set[int], set[int]]:
    """Where words begin and where they end."""
    places = words.split(text)
    return {start for start, _ in places}, {end for _, end in places}


def is_of_words(span: Written, name: str, starts: set[int], ends: set[int]) -> bool:
    return span.start in starts and span.end + ENDS[name] in ends


def problem(row: Annotated, span: Written, name: str) -> str | None:
    """What is wrong with a span if its end is read so; None: nothing."""
    end = span.end + ENDS[name]
    if not 0 <= span.start < end <= len(row.text):
        return (
            f"span [{span.start}, {span.end}] {span.label!r} does not lie in its text of "
            f"{len(row.text)} characters; is span_end right?"
        )
    if span.text is not None and row.text[span.start : end] != span.text:
        return (
            f"span [{span.start}, {span.end}] {span.label!r} should be {span.text!r}; its "
            f"characters are {row.text[span.start : end]!r}; is span_end right?"
        )
    return None


def read_as(row: Annotated, name: str, path: Path) -> list[Span]:
    """The spans of a text with exclusive ends. Raises DataError at one that cannot be."""
    found = []
    for span in row.spans:
        wrong = problem(row, span, name)
        if wrong is not None:
            raise DataError(f"{path}:{row.line}: {wrong}")
        found.append(Span(span.start, span.end + ENDS[name], span.label))
    return found
