"""First pass: read and clean each unit, and store its documents with the hashes of their texts.

A unit becomes three files in the work folder: `.arrow` (id, text; in input order), `.hashes.npy`
uint64 (n, 2), `.bytes.npy` int64 (n,) of UTF-8. Documents are written in batches bounded by bytes.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep import cleaning, dedup, units
from data_prep.cleaning import Clean
from data_prep.dedup import Dedup
from data_prep.documents import Document, Reject
from data_prep.sources import Source
from data_prep.units import Unit
from data_prep.work import Work, atomic, save_array
from runtime.errors import DataError

BATCH_BYTES = 1 << 22
SAMPLES_PER_REASON = 3
QUARANTINE_GRACE = 10  # documents: fewer damaged ones never stop a run
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string())])


@dataclass(frozen=True)
class ReadJob:
    """What a worker needs to read one unit."""

    work: Work
    unit: Unit
    params: Source
    clean: Clean
    dedup: Dedup

    @property
    def name(self) -> str:
        return f"read/{self.unit.name}"


class Tally:
    """Counts and samples of what was turned away."""

    def __init__(self) -> None:
        self.quarantined: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.samples: dict[str, list[dict[str, str]]] = {}

    def add(self, reject: Reject) -> None:
        counts = self.quarantined if reject.kind == "quarantined" else self.dropped
        counts[reject.reason] += 1
        samples = self.samples.setdefault(reject.reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append({"id": reject.id, "sample": reject.sample})


def read_unit(job: ReadJob) -> dict[str, Any]:
    """Read, clean, hash and store one unit; return its journal."""
    tally = Tally()
    hashes: list[tuple[int, int]] = []
    sizes: list[int] = []
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        atomic(job.work.path(job.name, ".arrow")) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA, options=options) as writer,
    ):
        held: list[Document] = []
        held_bytes = 0
        for found in units.read(job.unit, job.params):
            result = cleaning.clean(found, job.clean) if isinstance(found, Document) else found
            if isinstance(result, Reject):
                tally.add(result)
                continue
            hashes.append(dedup.text_hash(result.text, job.dedup))
            sizes.append(len(result.text.encode("utf-8")))
            held.append(result)
            held_bytes += sizes[-1]
            if held_bytes >= BATCH_BYTES:
                writer.write_batch(batch_of(held))
                held, held_bytes = [], 0
        if held:
            writer.write_batch(batch_of(held))
    save_array(job.work.path(job.name, ".hashes.npy"), np.array(hashes, np.uint64).reshape(-1, 2))
    save_array(job.work.path(job.name, ".bytes.npy"), np.array(sizes, np.int64))
    return job.work.finish(
        job.name,
        {
            "kept": len(sizes),
            "bytes": sum(sizes),
            "quarantined": dict(sorted(tally.quarantined.items())),
            "dropped": dict(sorted(tally.dropped.items())),
            "samples": tally.samples,
        },
    )


def batch_of(documents: list[Document]) -> pa.RecordBatch:
    return pa.record_batch(
        [[document.id for document in documents], [document.text for document in documents]],
        schema=SCHEMA,
    )


def merged(journals: list[dict[str, Any]]) -> dict[str, Any]:
    """The journals of a source's units as one, samples in input order."""
    total: dict[str, Any] = {"kept": 0, "bytes": 0}
    quarantined: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    samples: dict[str, list[dict[str, str]]] = {}
    for journal in journals:
        total["kept"] += journal["kept"]
        total["bytes"] += journal["bytes"]
        quarantined.update(journal["quarantined"])
        dropped.update(journal["dropped"])
        for reason, found in journal["samples"].items():
            held = samples.setdefault(reason, [])
            held += found[: SAMPLES_PER_REASON - len(held)]
    read = total["kept"] + quarantined.total() + dropped.total()
    return total | {
        "read": read,
        "quarantined": dict(sorted(quarantined.items())),
        "dropped": dict(sorted(dropped.items())),
        "samples": dict(sorted(samples.items())),
    }


def check_damage(name: str, params: Source, total: dict[str, Any]) -> None:
    """Raise DataError if too large a share of a source is damaged, or nothing of it is left."""
    damaged = sum(total["quarantined"].values())
    reasons = ", ".join(f"{reason}: {count}" for reason, count in total["quarantined"].items())
    if damaged > QUARANTINE_GRACE and damaged > params.max_quarantined_share * total["read"]:
        raise DataError(
            f"source {name}: {damaged} of {total['read']} documents are damaged ({reasons}), more "
            f"than max_quarantined_share ({params.max_quarantined_share:g}); first: "
            f"{first_sample(total)}; repair the input or raise the share"
        )
    if not total["kept"]:
        dropped = ", ".join(f"{reason}: {count}" for reason, count in total["dropped"].items())
        raise DataError(
            f"source {name}: no document is left of {total['read']} read "
            f"({', '.join(part for part in (reasons, dropped) if part) or 'the input is empty'})"
        )


def first_sample(total: dict[str, Any]) -> str:
    reason = next(iter(total["quarantined"]))
    sample = total["samples"][reason][0]
    return f"{sample['id']} ({sample['sample'][:80]!r})"


def documents(work: Work, unit: str, keep: np.ndarray[Any, Any]) -> Any:
    """The stored documents of a unit in batches: (numbers, ids, texts) of those to keep."""
    with pa.memory_map(str(work.path(f"read/{unit}", ".arrow"))) as source:
        reader = pa.ipc.open_file(source)
        first = 0
        for place in range(reader.num_record_batches):
            batch = reader.get_batch(place)
            numbers = np.flatnonzero(keep[first : first + len(batch)])
            chosen = batch.take(pa.array(numbers))
            yield numbers + first, chosen.column(0).to_pylist(), chosen.column(1).to_pylist()
            first += len(batch)


def unit_array(work: Work, unit: str, kind: str) -> Any:
    """One of the .npy files of a unit, mapped."""
    return np.load(work.path(f"read/{unit}", f".{kind}.npy"), mmap_mode="r")
