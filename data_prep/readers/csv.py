"""CSV: one document a row.

Its id is the id column, or `file#line` of the line (from 1) on which the row begins. Quarantined:
rows with another number of fields than the header, stray quotes, bytes that are not UTF-8, rows
that are too long. Empty rows are no documents. A quoted field may span lines, so where a row begins
is known only by reading what is before it: files are not cut in byte ranges; give many files.
"""

import csv
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field

from data_prep.compression import ENDINGS, Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, whole_parts
from data_prep.input_lines import lines
from data_prep.records import document_of
from data_prep.sources import InputFile, Part, Source

TOO_LONG = "line longer than max_document_bytes"


class Params(Source):
    """Reads rows of separated values."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # None: a tab in
    #                       .tsv and .tab files, a comma in others
    quotes: bool = True  # False: a quote is a character like others, and a row is one line
    has_header: bool = True  # False: fields are named 0, 1, 2...


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The rows of a file."""
    csv.field_size_limit(params.max_document_bytes)
    source = RowLines(part, params)
    delimiter = params.delimiter or delimiter_of(part.path)
    rows = csv.reader(
        source, delimiter=delimiter, strict=True,
        quoting=csv.QUOTE_MINIMAL if params.quotes else csv.QUOTE_NONE,
    )  # fmt: skip
    header: list[str] | None = None
    while True:
        place = f"{part.id_prefix}#{rows.line_num + 1}"
        source.begin_row()
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield quarantine(place, "corrupt CSV row", str(error))
            continue
        except Damaged as damage:
            yield quarantine(part.id_prefix, damage.reason, str(damage))
            return
        if row is None:
            return
        if header is None:
            header = row if params.has_header else [str(i) for i in range(len(row))]
            if params.has_header:
                continue
        if not row:
            continue
        if source.is_too_long:
            yield quarantine(place, TOO_LONG, row[0])
        elif len(row) != len(header):
            sample = f"{len(row)} fields, expected {len(header)}: {delimiter.join(row)}"
            yield quarantine(place, "wrong number of fields", sample)
        else:
            yield document_of(dict(zip(header, row, strict=True)), place, params, name)


def delimiter_of(path: str) -> str:
    for ending in ENDINGS:
        path = path.removesuffix(ending)
    return "\t" if path.endswith((".tsv", ".tab")) else ","


class RowLines:
    """The lines of a part as text for `csv.reader`, which may ask for more after an error.

    Bytes that are not UTF-8 become lone surrogates, which `documents.check` quarantines.
    """

    def __init__(self, part: Part, params: Params) -> None:
        self.lines = lines(part, params)
        self.max_bytes = params.max_document_bytes
        self.begin_row()

    def begin_row(self) -> None:
        self.size = 0  # bytes of the row so far
        self.is_too_long = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        _, content, is_too_long = next(self.lines)
        self.is_too_long |= is_too_long
        self.size += len(content) + 1
        if self.size > 2 * self.max_bytes + 2:  # many quoted lines, each of allowed length
            raise csv.Error(f"the row is longer than {self.size:,} bytes: is a quote not closed?")
        return content.decode("utf-8", errors="surrogateescape") + "\n"
