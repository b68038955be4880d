"""The text a tokenizer is trained on: pieces of lines of kept training documents.

Each source gives its share of the byte budget (by its size, or by `source_weights`). Lines are
drawn by a hash of document and line number, so the sample is the same for any number of workers.
For a source far larger than its budget only some units, in an order drawn by hash, are read.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_prep import dedup, stored
from data_prep.units import Unit
from data_prep.work import Work

READ_AHEAD = 4  # bytes of documents read for each byte of the sample, where there are so many
SPAN_BYTES = 1 << 12  # of consecutive lines drawn together


def sample(
    work: Work,
    units: Mapping[str, Sequence[Unit]],
    weights: Mapping[str, float],
    total_bytes: int,
    valid_share: float,
) -> Iterator[str]:
    """Spans of text, source after source, about `total_bytes` of UTF-8 together."""
    sizes = {
        name: [training_bytes(work, unit, valid_share) for unit in found]
        for name, found in units.items()
    }
    given = {name: weights.get(name, 0.0) if weights else float(sum(sizes[name])) for name in units}
    whole = sum(given.values()) or 1.0
    for name, found in units.items():
        budget = total_bytes * given[name] / whole
        chosen = some_units(found, sizes[name], READ_AHEAD * budget)
        available = sum(sizes[name][unit.number] for unit in chosen)
        if available:
            share = min(1.0, budget / available)
            for unit in chosen:
                yield from spans_of(work, unit, share, valid_share)


def training_documents(work: Work, unit: Unit, valid_share: float) -> NDArray[np.bool_]:
    """Which documents of a unit are kept and not for validation."""
    keep = np.load(work.path(f"keep/{unit.name}", ".npy"))
    valid = dedup.is_valid(stored.unit_array(work, unit.name, "hashes"), valid_share)
    return np.asarray(keep & ~valid)


def training_bytes(work: Work, unit: Unit, valid_share: float) -> int:
    sizes = stored.unit_array(work, unit.name, "bytes")
    return int(sizes[training_documents(work, unit, valid_share)].sum())


def some_units(units: Sequence[Unit], sizes: Sequence[int], wanted: float) -> list[Unit]:
    """Units in an order drawn by hash until they hold enough; returned in input order."""
    order = sorted(units, key=lambda unit: xxhash.xxh3_64_intdigest(unit.name.encode()))
    chosen, held = [], 0
    for unit in order:
        if held >= wanted:
            break
        chosen.append(unit)
        held += sizes[unit.number]
    return sorted(chosen, key=lambda unit: unit.number)


def spans_of(work: Work, unit: Unit, share: float, valid_share: float) -> Iterator[str]:
    """The drawn spans of a unit's training documents."""
    limit = int(share * 2**64)
    wanted = training_documents(work, unit, valid_share)
    for batch in stored.documents(work, unit.name, wanted):
        for id, text in zip(batch.ids, batch.texts, strict=True):
            for number, span in enumerate(spans(text)):
                key = f"{unit.source}/{id}/{number}".encode()
                if share >= 1.0 or xxhash.xxh3_64_intdigest(key) < limit:
                    yield span


def spans(text: str) -> Iterator[str]:
    """Consecutive lines of about SPAN_BYTES characters together."""
    held: list[str] = []
    size = 0
    for line in text.split("\n"):
        held.append(line)
        size += len(line) + 1
        if size >= SPAN_BYTES:
            yield "\n".join(held)
            held, size = [], 0
    if held:
        yield "\n".join(held)
