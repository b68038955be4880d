"""CSV and TSV: one document a row; quoted fields may span lines, so files are not split."""

import csv
from collections.abc import Iterator

from data_prep.documents import Document, Reject, quarantine
from data_prep.files import Damaged, find, lines, whole_parts
from data_prep.sources import MISSING_TEXT, InputFile, Part, Source


class Params(Source):
    """Reads rows of separated values."""

    delimiter: str = ","  # one character; "\t" for TSV
    has_header: bool = True  # False: fields are named 0, 1, 2...


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The rows of a file; empty rows are no documents."""
    csv.field_size_limit(params.max_document_bytes)
    too_long: list[int] = []  # offsets of lines of the row being read
    rows = csv.reader(decoded(part, params, too_long), delimiter=params.delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number = rows.line_num + 1
        place = f"{part.id_prefix}#{number}"
        too_long.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield quarantine(place, "corrupt CSV row", str(error))
            continue
        except Damaged as damage:
            yield quarantine(place, "damaged file", str(damage))
            return
        if row is None:
            return
        if header is None:
            header = row if params.has_header else [str(i) for i in range(len(row))]
            if params.has_header:
                continue
        if not row:
            continue
        if too_long:
            yield quarantine(place, "line longer than max_document_bytes", row[0])
        elif len(row) != len(header):
            sample = f"{len(row)} fields, expected {len(header)}: {params.delimiter.join(row)}"
            yield quarantine(place, "wrong number of fields", sample)
        elif params.text not in header:
            yield quarantine(place, MISSING_TEXT, f"fields: {', '.join(header)}")
        else:
            fields = dict(zip(header, row, strict=True))
            id = fields.get(params.id, place) if params.id is not None else place
            yield Document(id, fields[params.text], name, params.domain)


def decoded(part: Part, params: Params, too_long: list[int]) -> Iterator[str]:
    """Lines as text; bytes that are not UTF-8 become lone surrogates, which are refused later."""
    for line in lines(part, params.max_document_bytes):
        if line.is_too_long:
            too_long.append(line.offset)
        yield line.content.decode("utf-8", errors="surrogateescape") + "\n"
