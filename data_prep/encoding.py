"""Second pass: the kept documents of each unit as token ids.

A unit becomes `.tokens.bin` (uint16 or uint32, texts one after the other without special tokens),
`.lengths.npy` int64 (n,), `.documents.npy` uint64 (n,) and `.rows.npy` int64 (n,): where each
document stands among those the first pass kept.

The first pass writes the same files itself where nothing has to happen in between; what is dropped
as a copy afterwards stays in them and is passed over when shards are written.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_prep import stored
from data_prep.encoder import Encoder
from data_prep.shards import TokenizerFacts
from data_prep.stored import Batch
from data_prep.units import Unit
from data_prep.work import Work, save_array
from runtime.provenance import atomic


@dataclass(frozen=True)
class EncodeJob:
    """What a worker needs to encode one unit."""

    work: Work
    unit: Unit
    tokenizer: TokenizerFacts

    @property
    def name(self) -> str:
        return f"encode/{self.unit.name}"


class TokenFile:
    """Takes batches of documents into the files of a unit."""

    def __init__(self, file: BinaryIO, source: str, encoder: Encoder) -> None:
        self.file, self.source, self.encoder = file, source, encoder
        self.lengths: list[NDArray[np.int64]] = []
        self.rows: list[NDArray[np.int64]] = []
        self.documents: list[int] = []

    def write(self, batch: Batch) -> None:
        encoded = self.encoder.encode(batch.texts)
        self.file.write(encoded.tokens.data)
        self.lengths.append(encoded.lengths)
        self.rows.append(batch.rows)
        self.documents += [document_hash(self.source, id) for id in batch.ids]


@contextmanager
def token_file(work: Work, unit: Unit, tokenizer: TokenizerFacts) -> Iterator[TokenFile]:
    """The files of a unit, which get their names when the block ends without error; then the
    unit's journal is written too."""
    name = f"encode/{unit.name}"
    encoder = encoder_of(tokenizer)
    before = encoder.num_mismatches
    with (
        atomic(work.path(name, ".tokens.bin")) as temporary,
        temporary.open("wb", buffering=0) as file,
    ):
        tokens = TokenFile(file, unit.source, encoder)
        yield tokens
    lengths = stored.joined(tokens.lengths, np.int64)
    save_array(work.path(name, ".lengths.npy"), lengths)
    save_array(work.path(name, ".rows.npy"), stored.joined(tokens.rows, np.int64))
    save_array(work.path(name, ".documents.npy"), np.array(tokens.documents, np.uint64))
    report = {"tokens": int(lengths.sum()), "mismatches": encoder.num_mismatches - before}
    work.finish(name, report)


HELD: dict[str, Encoder] = {}  # of this process: an encoder remembers the words it has seen


def encoder_of(tokenizer: TokenizerFacts) -> Encoder:
    """This process' encoder; another tokenizer takes the place of the one before."""
    if tokenizer.fingerprint not in HELD:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a worker has one core
        HELD.clear()
        HELD[tokenizer.fingerprint] = Encoder(tokenizer.folder)
    return HELD[tokenizer.fingerprint]


def release() -> None:
    """Give back the memory of this process' encoder."""
    HELD.clear()


def encode_unit(job: EncodeJob) -> dict[str, Any]:
    """Encode the kept documents of one unit; return its journal."""
    keep = np.load(job.work.path(f"keep/{job.unit.name}", ".npy"))
    with token_file(job.work, job.unit, job.tokenizer) as tokens:
        for batch in stored.documents(job.work, job.unit.name, keep):
            if batch.ids:
                tokens.write(batch)
    journal = job.work.journal(job.name)
    assert journal is not None
    return journal


def encoded(work: Work, unit: str, kind: str) -> NDArray[Any]:
    """One of the .npy files of an encoded unit, mapped."""
    path = work.path(f"encode/{unit}", f".{kind}.npy")
    return np.asarray(np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None))


def document_hash(source: str, id: str) -> int:
    """The number a document is known by in the shards."""
    return xxhash.xxh3_64_intdigest(f"{source}/{id}".encode())
