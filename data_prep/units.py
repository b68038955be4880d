"""Units of work: the pieces of the input that workers take, fixed by the recipe and the input.

A unit is a run of consecutive parts of one source holding about `unit_bytes`: a byte range, some
row groups, one compressed file or hub shard, or many small files. A source with `max_documents` is
one unit, because where it ends is known only by reading it in order.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import ModuleType

from data_prep.documents import Document, Reject, check
from data_prep.sources import MISSING_TEXT, READERS, InputFile, Part, Source
from runtime import plugins
from runtime.errors import DataError

PROBE_DOCUMENTS = 100


@dataclass(frozen=True)
class Unit:
    """What one worker reads at once."""

    source: str
    number: int  # within the source, in input order
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return f"{self.source}/{self.number:06d}"

    @property
    def size(self) -> int:
        """Bytes of input; 0 if not known."""
        return sum(part.size for part in self.parts)


def reader(params: Source) -> ModuleType:
    return plugins.find(READERS, params.reader)


def inputs(sources: Mapping[str, Source]) -> dict[str, list[InputFile]]:
    """The input files of every source. Raises DataError naming the source."""
    found = {}
    for name, params in sources.items():
        try:
            found[name] = list(reader(params).inputs(params))
        except DataError as error:
            raise DataError(f"source {name}: {error}") from None
    return found


def units_of(name: str, params: Source) -> list[Unit]:
    """The units of a source, in input order. Raises DataError naming the source."""
    try:
        parts = list(reader(params).parts(params))
    except DataError as error:
        raise DataError(f"source {name}: {error}") from None
    limit = params.unit_bytes if params.max_documents is None else None
    return [Unit(name, number, group) for number, group in enumerate(grouped(parts, limit))]


def grouped(parts: Iterable[Part], limit: int | None) -> Iterator[tuple[Part, ...]]:
    """Consecutive parts with at most `limit` bytes together; a part of unknown size stays alone."""
    held: list[Part] = []
    size = 0
    for part in parts:
        full = limit is not None and size + part.size > limit
        if held and (full or (limit is not None and not part.size)):
            yield tuple(held)
            held, size = [], 0
        held.append(part)
        size += part.size
    if held:
        yield tuple(held)


def read(unit: Unit, params: Source) -> Iterator[Document | Reject]:
    """The documents of a unit and what stands for those that could not be read."""
    num_documents = 0
    module = reader(params)
    for part in unit.parts:
        for found in module.read(part, params, unit.source):
            if isinstance(found, Document):
                found = check(found, params.max_document_bytes)
                num_documents += isinstance(found, Document)
            yield found
            if num_documents == params.max_documents:
                return


def probe(units: Iterable[Unit], name: str, params: Source) -> None:
    """Read the first documents of a source, so that a wrong field or an empty source ends the run
    before any work is done. Raises DataError."""
    first = list(islice((found for unit in units for found in read(unit, params)), PROBE_DOCUMENTS))
    if not first:
        raise DataError(f"source {name} holds no document; check `path` ({params.path!r})")
    missing = [found for found in first if isinstance(found, Reject) and is_missing(found)]
    if len(missing) == len(first):
        raise DataError(
            f"source {name}: none of the first {len(first)} documents has the field "
            f"{params.text!r}; {missing[0].sample}; set `text` to one of them"
        )


def is_missing(reject: Reject) -> bool:
    return reject.reason == MISSING_TEXT
