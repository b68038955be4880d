"""Records: what a reader found under field names becomes a document, or a reject that says why not.

A field may lie inside others: "a.b" is `b` of the object `a`, unless a field is literally so named.
A record without the id field, or with null in it, gets its place in the input as id.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from data_prep.documents import Document, Reject, quarantine
from data_prep.sources import MISSING_TEXT, Source

ABSENT = object()
NAMES_SHOWN = 40
MAX_DEPTH = 3  # of names shown


def document_of(
    fields: Mapping[str, Any], place: str, params: Source, name: str
) -> Document | Reject:
    """The document of a record of the source `name`, found at `place`."""
    text = fields.get(params.text)
    if type(text) is not str:
        text = inner(fields, params.text)
        if text is ABSENT:
            return quarantine(place, MISSING_TEXT, f"fields: {', '.join(field_names(fields))}")
        if not isinstance(text, str):
            return quarantine(place, "text is not a string", repr(text)[:200])
    if params.id is not None:
        id = fields.get(params.id)
        if type(id) is str:
            return Document(id, text, name, params.domain)
        id = inner(fields, params.id)
        if id is not ABSENT and id is not None:
            place = str(id)
    return Document(place, text, name, params.domain)


def inner(fields: Mapping[str, Any], path: str) -> Any:
    """The value at a path of field names joined by dots, or ABSENT."""
    if path in fields:
        return fields[path]
    found: Any = fields
    for key in path.split("."):
        if not isinstance(found, Mapping) or key not in found:
            return ABSENT
        found = found[key]
    return found


def field_names(fields: Mapping[str, Any]) -> list[str]:
    """The names a recipe may give, with those inside of objects."""
    found = list(islice(flat(fields, ""), NAMES_SHOWN + 1))
    return found if len(found) <= NAMES_SHOWN else [*found[:-1], "..."]


def flat(fields: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in fields.items():
        if isinstance(value, Mapping) and prefix.count(".") < MAX_DEPTH:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def record_of(content: bytes, place: str, params: Source, name: str) -> Document | Reject:
    """The document of a JSON object.

    orjson is strict where Python's own parser is lenient (NaN, lone surrogates) and rounds integers
    beyond 64 bits: what it refuses, and objects with an id that is a number with a fraction, are
    parsed again by json.
    """
    try:
        fields = orjson.loads(content)
        if type(fields) is dict and not (
            params.id is not None and type(fields.get(params.id)) is float
        ):
            return document_of(fields, place, params, name)
    except orjson.JSONDecodeError:
        pass
    try:
        fields = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        return quarantine(place, "not valid UTF-8", content)
    except (ValueError, RecursionError):
        return quarantine(place, "corrupt JSON", content)
    if not isinstance(fields, dict):
        return quarantine(place, "not a JSON object", content)
    return document_of(fields, place, params, name)
