"""Plain text: a document is a file, a paragraph between blank lines, or a line.

Its id is the file's name, with `@offset` in bytes for paragraphs and lines. Empty texts are no
documents. Quarantined: what is not UTF-8 (see `encoding`) or too long. Only files of one document a
line are cut in byte ranges: where a paragraph begins is known only by reading what is before it.
"""

from collections.abc import Iterator
from typing import Literal

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import byte_range_parts, find, whole_parts
from data_prep.input_lines import lines
from data_prep.sources import InputFile, Part, Source


class Params(Source):
    """Reads plain text files."""

    document: Literal["file", "blank_line", "line"] = "file"  # what one document is


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return byte_range_parts(params) if params.document == "line" else whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The texts of a part."""
    try:
        for place, content, is_too_long in pieces(part, params):
            if is_too_long:
                yield quarantine(place, "longer than max_document_bytes", content)
                continue
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                yield quarantine(place, "not valid UTF-8", content)
                continue
            if text and not text.isspace():
                yield Document(place, text, name, params.domain)
    except Damaged as damage:
        yield quarantine(part.id_prefix, damage.reason, str(damage))


Piece = tuple[str, bytes, bool]  # id, content, whether it is too long


def pieces(part: Part, params: Params) -> Iterator[Piece]:
    """The bytes of each document, gathered line by line and never more than allowed.

    Raises Damaged; what is held then is the beginning of a document whose end is lost.
    """
    place = part.id_prefix
    if params.document == "line":
        for offset, content, is_too_long in lines(part, params):
            yield f"{place}@{offset}", content, is_too_long
        return
    is_paragraph = params.document == "blank_line"
    held: list[bytes] = []
    size, begin, is_too_long = 0, 0, False
    for offset, content, is_line_too_long in lines(part, params):
        if is_paragraph and (not content or content.isspace()):
            if held:
                yield f"{place}@{begin}", b"\n".join(held), is_too_long
            held, size, is_too_long = [], 0, False
            continue
        if not held:
            begin = offset
        size += len(content) + 1
        is_too_long |= is_line_too_long or size > params.max_document_bytes + 1
        if not is_too_long or not held:
            held.append(content)
    if held:
        yield f"{place}@{begin}" if is_paragraph else place, b"\n".join(held), is_too_long
