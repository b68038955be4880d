"""First pass: read, clean and check each unit, and store its documents with their prints.

Of a unit the work folder then holds `.bytes.npy` int64 (n,) of UTF-8, what `data_prep/prints.py`
writes for finding copies, and its documents: as text (`data_prep/stored.py`), or already as token
ids (`data_prep/encoding.py`) if the tokenizer is there and nothing will be cut out of texts.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from data_prep import augmenting, cleaning, decontamination, encoding, stored, units
from data_prep.augmenting import Augment
from data_prep.cleaning import Clean
from data_prep.decontamination import Decontaminate
from data_prep.dedup import Dedup
from data_prep.documents import Document, Reject
from data_prep.prints import Prints
from data_prep.shards import TokenizerFacts
from data_prep.sources import Source
from data_prep.stored import BATCH_BYTES, Batch
from data_prep.units import Unit
from data_prep.work import Work, save_array
from runtime.errors import DataError

SAMPLES_PER_REASON = 3
QUARANTINE_GRACE = 10  # documents: fewer damaged ones never stop a run


@dataclass(frozen=True)
class ReadJob:
    """What a worker needs to read one unit."""

    work: Work
    unit: Unit
    params: Source
    clean: Clean
    dedup: Dedup
    decontaminate: Decontaminate
    augment: Augment
    seed: int
    tokenizer: TokenizerFacts | None  # given: store token ids, not text

    @property
    def name(self) -> str:
        return f"read/{self.unit.name}"


class Tally:
    """Counts, and samples of what was turned away."""

    def __init__(self) -> None:
        self.read = 0  # documents that came out of the reader, damaged ones included
        self.augmented = 0
        self.redacted = 0
        self.quarantined: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.samples: dict[str, list[dict[str, str]]] = {}

    def turn_away(self, reject: Reject) -> None:
        counts = self.quarantined if reject.kind == "quarantined" else self.dropped
        counts[reject.reason] += 1
        samples = self.samples.setdefault(reject.reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append({"id": reject.id, "sample": reject.sample})

    def accept(self, document: Document) -> None:
        if document.metadata:
            if language := document.metadata.get("language"):
                self.languages[language] += 1
            self.redacted += int(document.metadata.get("redacted", 0))

    def journal(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "augmented": self.augmented,
            "redacted": self.redacted,
            "quarantined": dict(sorted(self.quarantined.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "languages": dict(sorted(self.languages.items())),
            "samples": self.samples,
        }


class Sink(Protocol):
    """Where batches of documents go."""

    def write(self, batch: Batch) -> None: ...


def read_unit(job: ReadJob) -> dict[str, Any]:
    """Read, clean, check and store one unit; return its journal."""
    tally = Tally()
    prints = Prints(job.dedup)
    decontaminator = decontamination.decontaminator(job.decontaminate)
    sizes: list[int] = []
    with sink_of(job) as sink:
        ids: list[str] = []
        texts: list[str] = []
        held = 0
        for document in accepted(job, decontaminator, tally):
            prints.add(document)
            sizes.append(document.size)
            ids.append(document.id)
            texts.append(document.text)
            held += sizes[-1]
            if held >= BATCH_BYTES:
                sink.write(Batch(np.arange(len(sizes) - len(ids), len(sizes)), ids, texts))
                ids, texts, held = [], [], 0
        if ids:
            sink.write(Batch(np.arange(len(sizes) - len(ids), len(sizes)), ids, texts))
    prints.save(job.work, job.name)
    save_array(job.work.path(job.name, ".bytes.npy"), np.array(sizes, np.int64))
    counts = tally.journal() | {"kept": len(sizes), "bytes": sum(sizes)}
    if decontaminator is not None:
        counts["contamination"] = decontaminator.journal()
    return job.work.finish(job.name, counts)


def sink_of(job: ReadJob) -> AbstractContextManager[Sink]:
    if job.tokenizer is not None:
        return encoding.token_file(job.work, job.unit, job.tokenizer)
    return stored.text_file(job.work, job.unit.name)


def accepted(
    job: ReadJob, decontaminator: decontamination.Decontaminator | None, tally: Tally
) -> Iterator[Document]:
    """The documents of a unit that no rule turns away, each followed by its augmented copies."""
    steps = cleaning.steps_of(job.clean)
    for found in units.read(job.unit, job.params):
        tally.read += 1
        result = cleaning.apply(steps, found) if isinstance(found, Document) else found
        if decontaminator is not None and isinstance(result, Document):
            result = decontaminator.check(result) or result
        if isinstance(result, Reject):
            tally.turn_away(result)
            continue
        tally.accept(result)
        yield result
        if job.augment.steps:
            for copy in augmenting.augmented(result, job.augment, job.seed):
                # What a model writes may hold an example that the document did not.
                found_in = decontaminator.check(copy) if decontaminator is not None else None
                tally.augmented += 1
                if found_in is not None:
                    tally.turn_away(found_in)
                    continue
                tally.accept(copy)
                yield copy


def merged(journals: list[dict[str, Any]]) -> dict[str, Any]:
    """The journals of a source's units as one, samples in input order."""
    total: dict[str, Any] = {
        key: sum(journal[key] for journal in journals)
        for key in ("read", "augmented", "redacted", "kept", "bytes")
    }
    for key in ("quarantined", "dropped", "languages"):
        counts: Counter[str] = Counter()
        for journal in journals:
            counts.update(journal[key])
        total[key] = dict(sorted(counts.items()))
    samples: dict[str, list[dict[str, str]]] = {}
    for journal in journals:
        for reason, found in journal["samples"].items():
            held = samples.setdefault(reason, [])
            held += found[: SAMPLES_PER_REASON - len(held)]
    total["samples"] = dict(sorted(samples.items()))
    total["contamination"] = [j["contamination"] for j in journals if "contamination" in j]
    return total


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
