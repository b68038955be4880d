"""Sentences with entities: the formats they come in.

CoNLL     one word a line in columns, as many in every line; an empty line ends a sentence;
          -DOCSTART- lines begin documents
JSONL     {"tokens": [...], "tags": [...]} a line, or a text with spans of characters
          (finetune/ner/character_spans.py), also in the layout of CLUENER: the spans in `label`
Spans that do not end where words do are widened to whole words; of spans that overlap the longest
is kept, because one tag a word can say no more. Both are counted, and so are tags that break the
scheme that the rest of the file is written in.

A sentence knows its document if the file has any: the -DOCSTART- lines, the rows with the same
value of a JSONL field, or, where the recipe says so, the file as a whole.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import lines
from finetune.ner import character_spans, tags, words
from finetune.ner.character_spans import Annotated
from finetune.ner.tags import Span
from runtime.errors import DataError

SPACES = re.compile(r"[ \t]+")  # and no other white space: words may hold U+00A0
DOCUMENT_START = "-DOCSTART-"
CLUENER_FIELD = "label"

Counts = dict[str, int | str]


@dataclass(frozen=True)
class Sentence:
    """Words of one text, where they lie in it, and its entities."""

    words: tuple[str, ...]
    text: str
    offsets: tuple[tuple[int, int], ...]  # characters of `text`
    entities: tuple[Span, ...]
    line: int  # of the file, where the sentence begins
    is_one_word_a_line: bool = False
    document: int | None = None  # its number in the file; None: stands alone
    place: int = 0  # among the sentences of the file, or of its document

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


@dataclass(frozen=True)
class Columns:
    """Where a CoNLL file has its words and tags."""

    separator: str  # "whitespace" or "tab"
    word: int
    tag: int


@dataclass(frozen=True)
class Fields:
    """The names of what a JSONL row has."""

    tokens: str
    tags: str
    text: str
    spans: str
    document: str


def read_conll(path: Path, columns: Columns) -> tuple[list[Sentence], Counts]:
    """All sentences of a CoNLL file, and counts: documents, the tag scheme and what breaks it."""
    raw: list[tuple[int, int, list[str], list[str]]] = []
    num_documents = num_columns = 0
    is_open = False
    for number, line in lines.read_lines(path):
        is_document = line.startswith(DOCUMENT_START)
        num_documents += is_document
        if is_document or not line.strip(" \t"):
            is_open = False
            continue
        cells = line.split("\t") if columns.separator == "tab" else SPACES.split(line.strip(" \t"))
        num_columns = num_columns or len(cells)
        word, tag = word_and_tag(cells, num_columns, columns, f"{path}:{number}")
        if not is_open:
            raw.append((number, num_documents, [], []))
            is_open = True
        raw[-1][2].append(word)
        raw[-1][3].append(tag)
    found = [
        replace(
            from_words(w, tags.spans(t), number, True),
            document=document if num_documents else None,
            place=place,
        )
        for place, (number, document, w, t) in enumerate(raw)
    ]
    return found, {"documents": num_documents, **scheme_of([row[3] for row in raw], path)}


def word_and_tag(
    cells: list[str], num_columns: int, columns: Columns, place: str
) -> tuple[str, str]:
    """What a line of a CoNLL file holds. Raises DataError naming the `place` of the line."""
    try:
        word, tag = cells[columns.word], cells[columns.tag]
    except IndexError:
        raise DataError(
            f"{place} has {len(cells)} columns; word_column = {columns.word} and "
            f"tag_column = {columns.tag} need more; set them or `separator`"
        ) from None
    if len(cells) == 1:
        raise DataError(
            f"{place} has a word but no tag: {cells[0]!r}; set `separator` to what is "
            "between the columns"
        )
    if len(cells) != num_columns:
        raise DataError(
            f"{place} has {len(cells)} columns, the lines before it {num_columns}; correct the "
            "line, or set `separator` to what is between the columns"
        )
    check_tag(tag, place)
    return word, tag


def read_jsonl(path: Path, fields: Fields, span_end: str) -> tuple[list[Sentence], Counts]:
    """All sentences of a JSONL file, and counts: documents, and the tag scheme or what `end` of a
    span points at ("auto": as the spans say)."""
    found: list[Sentence | Annotated] = []
    keys: list[Any] = []
    sequences: list[list[str]] = []
    for number, row in lines.read_objects(path):
        keys.append(document_key(row.get(fields.document), fields, f"{path}:{number}"))
        if fields.tokens not in row:
            found.append(annotated(row, fields, path, number))
            continue
        given = row[fields.tokens]
        sequence = lines.field_of(row, fields.tags, path, number, "tags_field")
        check_tokens(given, sequence, path, number)
        for tag in sequence:
            check_tag(tag, f"{path}:{number}")
        sequences.append(sequence)
        found.append(from_words(given, tags.spans(sequence), number))
    counts = Counter[str]()
    named: Counts = scheme_of(sequences, path) if sequences else {"tag_scheme": "spans"}
    texts = [row for row in found if isinstance(row, Annotated)]
    if texts:
        span_end = character_spans.ends_of(texts, path) if span_end == "auto" else span_end
        named["span_end"] = span_end
    rows = [
        row if isinstance(row, Sentence) else of_characters(row, span_end, path, counts)
        for row in found
    ]
    rows = in_documents(rows, keys)
    documents = {row.document for row in rows if row.document is not None}
    return rows, {"documents": len(documents), **named, **counts}


def annotated(row: dict[str, Any], fields: Fields, path: Path, number: int) -> Annotated:
    """A row that is a text with spans."""
    text = lines.field_of(row, fields.text, path, number, "text_field")
    if not isinstance(text, str):
        raise DataError(f"{path}:{number}: {fields.text!r} must be a string, given {text!r}")
    if fields.spans not in row and isinstance(row.get(CLUENER_FIELD), dict):
        spans = row[CLUENER_FIELD]
    else:
        spans = lines.field_of(row, fields.spans, path, number, "spans_field")
    return Annotated(number, text, character_spans.written(spans, path, number))


def of_characters(row: Annotated, span_end: str, path: Path, counts: Counter[str]) -> Sentence:
    """A sentence of a text and its spans of characters."""
    plain = from_text(row.text, [], row.line)
    characters = character_spans.read_as(row, span_end, path)
    return replace(plain, entities=tuple(word_spans(plain.offsets, characters, counts)))


def document_key(value: Any, fields: Fields, place: str) -> Any:
    """What names a row's document; None: it stands alone."""
    if value is None or isinstance(value, (str, int)):
        return value
    raise DataError(
        f"{place}: the document of a row must be a string or a number, {fields.document!r} is "
        f"{value!r}; set `document_field` to another field"
    )


def in_documents(rows: Sequence[Sentence], keys: Sequence[Any]) -> list[Sentence]:
    """The rows with their documents, numbered as they are met, and their places there."""
    numbers: dict[Any, int] = {}
    places = Counter[Any]()
    found = []
    for row, key in zip(rows, keys, strict=True):
        if key is None:
            found.append(row)
            continue
        document = numbers.setdefault(key, len(numbers))
        found.append(replace(row, document=document, place=places[key]))
        places[key] += 1
    return found


def scheme_of(sequences: Sequence[Sequence[str]], path: Path) -> Counts:
    """The tag scheme of a file, and how many places break it. Raises DataError if it has none."""
    try:
        name = tags.scheme(sequences)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    broken = sum(tags.breaks(sequence, name) for sequence in sequences)
    what = "entities_begun_by_i" if name == "mixed_iob" else "tags_breaking_scheme"
    return {"tag_scheme": name, **({what: broken} if broken else {})}


def check_tag(tag: str, place: str) -> None:
    try:
        tags.split_tag(tag)
    except ValueError as error:
        raise DataError(f"{place}: {error}; set the column or field of the tags") from None


def check_tokens(given: Any, sequence: Any, path: Path, number: int) -> None:
    for value in (given, sequence):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DataError(f"{path}:{number}: tokens and tags must be lists of strings")
    if len(given) != len(sequence):
        raise DataError(
            f"{path}:{number} has {len(given)} tokens and {len(sequence)} tags; "
            "there must be one tag a token"
        )


def word_spans(
    offsets: Sequence[tuple[int, int]], characters: Sequence[Span], counts: Counter[str]
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
