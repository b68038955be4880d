"""Sentences with entities: the formats they come in.

CoNLL     one word a line in columns; an empty line ends a sentence; -DOCSTART- lines end documents
JSONL     {"tokens": [...], "tags": [...]} a line, or {"text": "...", "spans": [{"start", "end",
          "label"}, ...]} with character offsets
Spans that do not end where words do are widened to whole words; of spans that overlap the longest
is kept, because one tag a word can say no more. Both are counted.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import lines, tags, words
from finetune.tags import Span
from runtime.errors import DataError

SPACES = re.compile(r"[ \t]+")  # and no other white space: words may hold U+00A0
DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words of one text, where they lie in it, and its entities."""

    words: tuple[str, ...]
    text: str
    offsets: tuple[tuple[int, int], ...]  # characters of `text`
    entities: tuple[Span, ...]
    line: int  # of the file, where the sentence begins
    is_one_word_a_line: bool = False

    @property
    def tags(self) -> list[str]:
        """One IOB2 tag a word."""
        return tags.iob2(self.entities, len(self.words))

    def line_of(self, word: int) -> int:
        return self.line + word * self.is_one_word_a_line


def from_words(
    given: list[str], entities: list[Span], line: int, is_one_word_a_line: bool = False
) -> Sentence:
    """A sentence of words whose text is not known."""
    text, offsets = words.join(given)
    return Sentence(tuple(given), text, tuple(offsets), tuple(entities), line, is_one_word_a_line)


def from_text(text: str, entities: list[Span], line: int) -> Sentence:
    """A sentence of a text; entities are spans of characters, made spans of words."""
    offsets = words.split(text)
    given = tuple(text[start:end] for start, end in offsets)
    return Sentence(given, text, tuple(offsets), tuple(entities), line)


def read_conll(
    path: Path, separator: str, word_column: int, tag_column: int
) -> tuple[list[Sentence], dict[str, int | str]]:
    """All sentences of a CoNLL file, and counts: documents, and the tag scheme's name."""
    counts: Counter[str] = Counter()
    raw: list[tuple[int, list[str], list[str]]] = []
    is_open = False
    for number, line in lines.read_lines(path):
        is_document = line.startswith(DOCUMENT_START)
        counts["documents"] += is_document
        if is_document or not line.strip(" \t"):
            is_open = False
            continue
        columns = line.split("\t") if separator == "tab" else SPACES.split(line.strip(" \t"))
        try:
            word, tag = columns[word_column], columns[tag_column]
        except IndexError:
            raise DataError(
                f"{path}:{number} has {len(columns)} columns; word_column = {word_column} and "
                f"tag_column = {tag_column} need more; set them or `separator`"
            ) from None
        if len(columns) == 1:
            raise DataError(
                f"{path}:{number} has a word but no tag: {line!r}; set `separator` to what is "
                "between the columns"
            )
        check_tag(tag, path, number)
        if not is_open:
            raw.append((number, [], []))
            is_open = True
        raw[-1][1].append(word)
        raw[-1][2].append(tag)
    found = [from_words(w, tags.spans(t), number, True) for number, w, t in raw]
    scheme = tags.scheme(sequence for _, _, sequence in raw)
    return found, {**counts, "tag_scheme": scheme}


def read_jsonl(
    path: Path, tokens_field: str, tags_field: str, text_field: str, spans_field: str, closed: bool
) -> tuple[list[Sentence], dict[str, int | str]]:
    """All sentences of a JSONL file and counts; `closed` spans include their last character."""
    counts: Counter[str] = Counter()
    found: list[Sentence] = []
    sequences: list[list[str]] = []
    for number, row in lines.read_objects(path):
        if tokens_field in row:
            given = row[tokens_field]
            sequence = lines.field_of(row, tags_field, path, number, "tags_field")
            check_tokens(given, sequence, path, number)
            for tag in sequence:
                check_tag(tag, path, number)
            sequences.append(sequence)
            found.append(from_words(given, tags.spans(sequence), number))
            continue
        text = lines.field_of(row, text_field, path, number, "text_field")
        raw = lines.field_of(row, spans_field, path, number, "spans_field")
        if not isinstance(text, str) or not isinstance(raw, list):
            raise DataError(
                f"{path}:{number}: {text_field!r} must be a string and {spans_field!r} a list"
            )
        characters = [read_span(value, text, closed, path, number) for value in raw]
        plain = from_text(text, [], number)
        entities = word_spans(plain.offsets, characters, counts)
        found.append(Sentence(plain.words, text, plain.offsets, tuple(entities), number))
    scheme = tags.scheme(sequences) if sequences else "spans"
    return found, {**counts, "tag_scheme": scheme}


def check_tag(tag: Any, path: Path, number: int) -> None:
    try:
        tags.split_tag(str(tag))
    except ValueError as error:
        raise DataError(f"{path}:{number}: {error}; set the column or field of the tags") from None


def check_tokens(given: Any, sequence: Any, path: Path, number: int) -> None:
    for value in (given, sequence):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DataError(f"{path}:{number}: tokens and tags must be lists of strings")
    if len(given) != len(sequence):
        raise DataError(
            f"{path}:{number} has {len(given)} tokens and {len(sequence)} tags; "
            "there must be one tag a token"
        )


def read_span(value: Any, text: str, closed: bool, path: Path, number: int) -> Span:
    """A span of characters. Raises DataError if it does not lie in the text."""
    try:
        start, end, label = value["start"], value["end"] + closed, value["label"]
        is_inside = 0 <= start < end <= len(text)
    except (TypeError, KeyError):
        raise DataError(
            f"{path}:{number}: a span must be {{start, end, label}}, given {value!r}"
        ) from None
    if not is_inside or not label or not isinstance(label, str):
        raise DataError(
            f"{path}:{number}: span {value!r} does not lie in its text of {len(text)} characters "
            "or has no label; is span_end right?"
        )
    return Span(start, end, label)


def word_spans(
    offsets: tuple[tuple[int, int], ...], characters: list[Span], counts: Counter[str]
) -> list[Span]:
    """Spans of characters as spans of whole words that do not overlap, in order."""
    taken = [False] * len(offsets)
    kept: list[Span] = []
    for span in sorted(characters, key=lambda span: (span.start - span.end, span.start)):
        touched = [i for i, (a, b) in enumerate(offsets) if a < span.end and b > span.start]
        if not touched or any(taken[i] for i in touched):
            counts["spans_dropped_overlapping_or_blank"] += 1
            continue
        first, last = touched[0], touched[-1]
        if (offsets[first][0], offsets[last][1]) != (span.start, span.end):
            counts["spans_widened_to_words"] += 1
        taken[first : last + 1] = [True] * (last + 1 - first)
        kept.append(Span(first, last + 1, span.type))
    return sorted(kept, key=lambda span: span.start)
