"""Prints: what the copies of a unit's documents are found by, made while they are read.

Files of a unit, little-endian, for n documents in their order; those named .bin are rows of the
dtypes below, sorted by hash, as `data_prep/ranges.py` reads them:

    .hashes.npy       uint64 (n, 2)       xxh3 of 128 bits of the text in the form of `compare`
    .exact.bin        EXACT               the same, with `exact`
    .signatures.bin   uint16 (n, bins)    MinHash signatures, with `near`; all EMPTY: no word
    .bands.bin        BAND                their bands, with `near`
    .lines.bin, .characters.npy           see `data_prep/lines.py`, with `lines`

Texts are hashed in batches. Held until the unit is saved: 16 bytes a document, 20 a line looked at,
and about 0.9 kB a document with `near` at 256 bins.
"""

from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_prep import minhash
from data_prep.dedup import Dedup
from data_prep.documents import Document
from data_prep.lines import LinePrints
from data_prep.ranges import save_sorted
from data_prep.spacing import single_spaced
from data_prep.work import Work, save_array
from runtime.provenance import atomic

BATCH_CHARACTERS = 1 << 18
BATCH_DOCUMENTS = 1 << 9
EXACT = np.dtype([("hash", "<u8"), ("low", "<u8"), ("document", "<u4")])
BAND = np.dtype([("hash", "<u8"), ("document", "<u4")])  # the number of the band is in the hash


class Prints:
    """Collects the prints of a unit's documents, which come in order."""

    def __init__(self, table: Dedup) -> None:
        self.table = table
        self.lines = LinePrints(table.line_min_characters)
        self.held: list[str] = []
        self.held_characters = 0
        self.digests = bytearray()
        self.signatures: list[NDArray[np.uint16]] = []
        self.bands: list[NDArray[Any]] = []

    def add(self, document: Document) -> None:
        """Take the next document."""
        if self.table.lines:
            excepted = document.source in self.table.lines_except
            (self.lines.skip if excepted else self.lines.add)(document.text)
        self.held.append(document.text)
        self.held_characters += len(document.text)
        if self.held_characters >= BATCH_CHARACTERS or len(self.held) >= BATCH_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        """Hash the texts that are held."""
        table, texts = self.table, self.held
        if table.compare == "words_any_case":
            # White space is the same whether case is folded before or after.
            texts = [text.casefold() for text in texts]
        # Without `exact` the hashes only say which texts are for validation.
        is_raw = table.compare == "text" or not table.exact
        plain = single_spaced(texts) if table.near or not is_raw else []
        compared = map(str.encode, texts) if is_raw else plain
        before = len(self.digests) // 16
        self.digests += b"".join(map(xxhash.xxh3_128_digest, compared))
        if table.near:
            self.sign(plain, before)
        self.held, self.held_characters = [], 0

    def sign(self, plain: list[bytes], before: int) -> None:
        """Signatures and bands of texts that `before` documents precede."""
        least = minhash.signatures(plain, self.table.near_ngram, self.table.near_bins)
        self.signatures.append(minhash.stored(least))
        some = np.flatnonzero((least != minhash.NO_VALUE).any(axis=1))
        num_bands, rows = self.table.bands
        found = np.empty((len(some), num_bands), BAND)
        found["hash"] = minhash.band_hashes(least[some], num_bands, rows)
        found["document"] = (some + before)[:, None]
        self.bands.append(found.reshape(-1))

    def save(self, work: Work, name: str) -> None:
        """Write the files of the unit `read/<unit>`."""
        self.flush()
        hashes = np.frombuffer(self.digests, ">u8").astype(np.uint64).reshape(-1, 2)
        save_array(work.path(name, ".hashes.npy"), hashes)
        if self.table.exact:
            rows = np.empty(len(hashes), EXACT)
            rows["hash"], rows["low"] = hashes[:, 0], hashes[:, 1]
            rows["document"] = np.arange(len(hashes))
            save_sorted(work.path(name, ".exact.bin"), rows)
        if self.table.near:
            with (
                atomic(work.path(name, ".signatures.bin")) as temporary,
                temporary.open("wb") as file,
            ):
                for signatures in self.signatures:
                    signatures.tofile(file)
            self.signatures = []
            save_sorted(work.path(name, ".bands.bin"), np.concatenate(self.bands))
        if self.table.lines:
            self.lines.save(work, name)
