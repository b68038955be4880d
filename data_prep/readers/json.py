"""JSON: an object, objects one after another, a list of objects, or a list inside of objects.

A document is an object of the list; its id is the id field, or `file@offset` in bytes. Quarantined:
objects that do not parse, are too long or lack the text field; what comes after a place where the
file itself cannot be followed any more (a missing bracket, a truncated file). Where an object
begins is known only by reading what is before it: files are not cut in byte ranges.
"""

from collections.abc import Iterator

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, open_part, whole_parts
from data_prep.input_lines import as_utf8
from data_prep.json_values import values
from data_prep.records import record_of
from data_prep.sources import InputFile, Part, Source


class Params(Source):
    """Reads .json files of any size."""

    list_at: str | None = None  # keys to the list, "data.rows"; None: the file is the list


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The objects of a file."""
    try:
        with open_part(part, params) as file:
            text = as_utf8(file, part, params)
            for offset, content, is_too_long in values(
                text, params.max_document_bytes, params.list_at
            ):
                place = f"{part.id_prefix}@{offset}"
                if is_too_long:
                    yield quarantine(place, "longer than max_document_bytes", content)
                else:
                    yield record_of(content, place, params, name)
    except Damaged as damage:
        yield quarantine(part.id_prefix, damage.reason, str(damage))
