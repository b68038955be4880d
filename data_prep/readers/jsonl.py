"""JSON Lines: one JSON object a line.

A document is a line; its id is the id field, or `file@offset` in bytes. Quarantined: lines that are
no JSON object, not UTF-8, too long, or without the text field. Blank lines are no documents.
Uncompressed UTF-8 files are cut in byte ranges.
"""

from collections.abc import Iterator

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import byte_range_parts, find
from data_prep.input_lines import lines
from data_prep.records import record_of
from data_prep.sources import InputFile, Part, Source


class Params(Source):
    """Reads .jsonl files; uncompressed ones are split into byte ranges."""


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return byte_range_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The objects on the lines of a part."""
    try:
        for offset, content, is_too_long in lines(part, params):
            if is_too_long:
                yield quarantine(
                    f"{part.id_prefix}@{offset}", "line longer than max_document_bytes", content
                )
            elif content and not content.isspace():
                yield record_of(content, f"{part.id_prefix}@{offset}", params, name)
    except Damaged as damage:
        yield quarantine(part.id_prefix, damage.reason, str(damage))
