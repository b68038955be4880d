"""CoNLL and other column files: a token a line, its tags beside it, a blank line after a sentence.

A document is what lies between `-DOCSTART-` lines, or `sentences_per_document` sentences of it; its
text is the tokens joined by spaces, its id `file@offset` of its first line in bytes. Quarantined: a
document with a line that lacks the token column, is too long or is not UTF-8, or that is too long
itself. Files are not cut in byte ranges.
"""

from collections.abc import Iterator

from pydantic import Field

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, whole_parts
from data_prep.input_lines import Line, lines
from data_prep.sources import InputFile, Part, Source
from runtime.config import Positive

DOCUMENT_START = b"-DOCSTART-"


class Params(Source):
    """Reads the tokens of column files (tags are not used)."""

    token_column: int = Field(default=0, ge=0)  # from 0; CoNLL-U: 1
    delimiter: str | None = None  # between columns; None: any white space
    comment: str | None = None  # lines that begin with it are passed over; CoNLL-U: "#"
    sentences_per_document: Positive | None = None  # None: a document ends at -DOCSTART- only


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The documents of a file."""
    try:
        for listed in documents(lines(part, params), params):
            place = f"{part.id_prefix}@{listed[0][0]}"
            try:
                text = " ".join(token(line, params) for line in listed if line[1])
            except ValueError as error:
                yield quarantine(place, str(error), b"\n".join(line[1] for line in listed[:20]))
                continue
            yield Document(place, text, name, params.domain)
    except Damaged as damage:
        yield quarantine(part.id_prefix, damage.reason, str(damage))


def documents(found: Iterator[Line], params: Params) -> Iterator[list[Line]]:
    """The token lines of each document; an empty line among them ends a sentence."""
    comment = params.comment.encode() if params.comment else None
    held: list[Line] = []
    num_sentences, size = 0, 0
    for offset, content, is_too_long in found:
        if comment and content.startswith(comment):
            continue
        is_blank = not content or content.isspace()
        is_start = content.startswith(DOCUMENT_START)
        if held and is_blank and held[-1][1]:
            num_sentences += 1
            held.append((offset, b"", False))
        if held and (is_start or num_sentences == params.sentences_per_document):
            yield held
            held, num_sentences, size = [], 0, 0
        if is_blank or is_start:
            continue
        size += len(content)
        if size <= 4 * params.max_document_bytes:  # tags are longer than tokens, but not that long
            held.append((offset, content, is_too_long))
        else:
            held[1:] = [(offset, b"...", True)]
    if held:
        yield held


def token(line: Line, params: Params) -> str:
    """The token of a line. Raises ValueError with the reason of a quarantine."""
    _, content, is_too_long = line
    if is_too_long:
        raise ValueError("longer than max_document_bytes")
    try:
        columns = content.decode("utf-8").split(params.delimiter)
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    if params.token_column >= len(columns):
        raise ValueError("token column missing")
    return columns[params.token_column]
