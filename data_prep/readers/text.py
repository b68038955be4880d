"""Plain text: a document is a file, a paragraph between blank lines, or a line."""

from collections.abc import Iterator
from typing import Literal

from data_prep.documents import Document, Reject, quarantine
from data_prep.files import (
    Damaged,
    byte_range_parts,
    find,
    lines,
    whole_parts,
)
from data_prep.sources import InputFile, Part, Source


class Params(Source):
    """Reads UTF-8 text files."""

    document: Literal["file", "blank_line", "line"] = "file"  # what one document is


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return byte_range_parts(params) if params.document == "line" else whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The texts of a part; empty ones are no documents."""
    for place, content, problem in pieces(part, params):
        if problem:
            yield quarantine(place, problem, content)
            continue
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            yield quarantine(place, "not valid UTF-8", content)
            continue
        if text.strip():
            yield Document(place, text, name, params.domain)


Piece = tuple[str, bytes, str]  # id, bytes, what is wrong with them


def pieces(part: Part, params: Params) -> Iterator[Piece]:
    """The bytes of each document, gathered line by line and never more than allowed."""
    too_long = "longer than max_document_bytes"
    held: list[bytes] = []
    size, begin, is_too_long = 0, 0, False
    place = part.id_prefix
    try:
        for line in lines(part, params.max_document_bytes):
            if params.document == "line":
                problem = too_long if line.is_too_long else ""
                yield f"{place}@{line.offset}", line.content, problem
                continue
            if params.document == "blank_line" and not line.content.strip():
                yield f"{place}@{begin}", b"\n".join(held), too_long if is_too_long else ""
                held, size, is_too_long = [], 0, False
                continue
            if not held:
                begin = line.offset
            size += len(line.content) + 1
            is_too_long |= line.is_too_long or size > params.max_document_bytes + 1
            if not is_too_long or not held:
                held.append(line.content)
    except Damaged as damage:
        # What is held is the beginning of a document whose end is lost.
        yield place, str(damage).encode(), "damaged file"
        return
    if params.document != "line":
        id = f"{place}@{begin}" if params.document == "blank_line" else place
        yield id, b"\n".join(held), too_long if is_too_long else ""
