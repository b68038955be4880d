"""JSON Lines: one JSON object a line."""

import json
from collections.abc import Iterator

from data_prep.documents import Document, Reject, quarantine
from data_prep.files import Damaged, Line, byte_range_parts, find, lines
from data_prep.sources import MISSING_TEXT, InputFile, Part, Source


class Params(Source):
    """Reads .jsonl files; uncompressed ones are split into byte ranges."""


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return byte_range_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The objects on the lines of a part; blank lines are no documents."""
    try:
        for line in lines(part, params.max_document_bytes):
            if line.content.strip():
                yield parse(line, f"{part.id_prefix}@{line.offset}", params, name)
    except Damaged as damage:
        yield quarantine(part.id_prefix, "damaged file", str(damage))


def parse(line: Line, place: str, params: Params, name: str) -> Document | Reject:
    if line.is_too_long:
        return quarantine(place, "line longer than max_document_bytes", line.content)
    try:
        fields = json.loads(line.content.decode("utf-8"))
    except UnicodeDecodeError:
        return quarantine(place, "not valid UTF-8", line.content)
    except (ValueError, RecursionError):
        return quarantine(place, "corrupt JSON", line.content)
    if not isinstance(fields, dict):
        return quarantine(place, "not a JSON object", line.content)
    if params.text not in fields:
        return quarantine(place, MISSING_TEXT, f"fields: {', '.join(fields)}")
    text = fields[params.text]
    if not isinstance(text, str):
        return quarantine(place, "text is not a string", line.content)
    id = str(fields[params.id]) if params.id is not None and params.id in fields else place
    return Document(id, text, name, params.domain)
