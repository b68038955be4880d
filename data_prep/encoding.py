"""Second pass: the kept documents of each unit as token ids.

tokenizer.json defines the ids. For a trained tokenizer SentencePiece finds the same ids about five
times faster, line by line; in every batch some documents are encoded both ways, and if one differs
the reference encodes this batch and the rest of the unit, which is counted and reported.

A unit becomes `.tokens.bin` (uint16 or uint32, texts one after the other without special tokens),
`.lengths.npy` int64 (n,), `.documents.npy` uint64 (n,), `.valid.npy` bool (n,), and `.counts.npy`
int64 (V,): how often each token occurs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import xxhash

from data_prep import dedup, reading, unigram
from data_prep.shards import TokenizerFacts
from data_prep.tokenizer import load_json
from data_prep.units import Unit
from data_prep.work import Work, atomic, save_array

VERIFIED_BYTES = 1 << 16  # of each batch (about 4 MB of text)
Ids = list[list[int]]


@dataclass(frozen=True)
class EncodeJob:
    """What a worker needs to encode one unit."""

    work: Work
    unit: Unit
    tokenizer: TokenizerFacts
    drop_shorter_than: int
    valid_share: float

    @property
    def name(self) -> str:
        return f"encode/{self.unit.name}"


class Encoder:
    """Texts to ids, by the fast way as long as it agrees with the reference."""

    def __init__(self, folder: Path) -> None:
        self.reference = load_json(folder / "tokenizer.json")
        self.fast = fast_model(folder / "tokenizer.model")
        self.newline = self.reference.token_to_id("\n") or 0  # used by the fast way only
        self.num_mismatches = 0

    def encode(self, texts: Sequence[str]) -> Ids:
        if self.fast is None:
            return self.by_reference(texts)
        ids = self.by_lines(texts)
        sample = spread(texts, VERIFIED_BYTES)
        if self.by_reference([texts[i] for i in sample]) == [ids[i] for i in sample]:
            return ids
        self.num_mismatches += 1
        self.fast = None
        return self.by_reference(texts)

    def by_reference(self, texts: Sequence[str]) -> Ids:
        encoded = self.reference.encode_batch_fast(list(texts), add_special_tokens=False)
        return [item.ids for item in encoded]

    def by_lines(self, texts: Sequence[str]) -> Ids:
        """SentencePiece over lines: newline is always a token of its own."""
        assert self.fast is not None
        lines = [(unigram.SPACE + text).split("\n") if text else [] for text in texts]
        encoded = iter(self.fast.encode(list(chain.from_iterable(lines)), num_threads=1))
        ids: Ids = []
        for parts in lines:
            document: list[int] = []
            for number in range(len(parts)):
                if number:
                    document.append(self.newline)
                document += next(encoded)
            ids.append(document)
        return ids


def fast_model(path: Path) -> Any:
    """The SentencePiece model if cutting its input at newlines cannot change its output."""
    if not path.is_file():
        return None
    proto = unigram.parsed(path.read_bytes())
    spec = proto.normalizer_spec
    if spec.precompiled_charsmap or spec.remove_extra_whitespaces or not spec.add_dummy_prefix:
        return None
    pieces = {piece.piece for piece in proto.pieces if piece.type == unigram.NORMAL}
    if "\n" not in pieces or not all(unigram.stays_in_word(piece) for piece in pieces):
        return None
    spec.add_dummy_prefix = False  # lines are not texts: `by_lines` puts the space in front
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def spread(texts: Sequence[str], budget: int) -> list[int]:
    """Places of some texts, spread over all, with at most about `budget` characters together."""
    places, used = [], 0
    step = max(1, len(texts) // 64)
    for place in range(0, len(texts), step):
        if used and used + len(texts[place]) > budget:
            continue
        places.append(place)
        used += len(texts[place])
    return places


def encode_unit(job: EncodeJob) -> dict[str, Any]:
    """Encode the kept documents of one unit; return its journal."""
    keep = np.load(job.work.path(f"keep/{job.unit.name}", ".npy"))
    hashes = reading.unit_array(job.work, job.unit.name, "hashes")
    valid = dedup.is_valid(hashes, job.valid_share)
    encoder = Encoder(job.tokenizer.folder)
    counts = np.zeros(job.tokenizer.vocab_size, np.int64)
    lengths: list[int] = []
    documents: list[int] = []
    is_valid: list[bool] = []
    num_short = 0
    path = job.work.path(job.name, ".tokens.bin")
    with atomic(path) as temporary, temporary.open("wb") as file:
        for numbers, ids, texts in reading.documents(job.work, job.unit.name, keep):
            for number, id, tokens in zip(numbers, ids, encoder.encode(texts), strict=True):
                if len(tokens) < job.drop_shorter_than:
                    num_short += 1
                    continue
                packed = np.array(tokens, token_type(job.tokenizer.vocab_size))
                file.write(packed.tobytes())
                counts += np.bincount(packed, minlength=len(counts))
                lengths.append(len(tokens))
                documents.append(document_hash(job.unit.source, id))
                is_valid.append(bool(valid[number]))
    for kind, array in (
        ("lengths", np.array(lengths, np.int64)),
        ("documents", np.array(documents, np.uint64)),
        ("valid", np.array(is_valid, bool)),
        ("counts", counts),
    ):
        save_array(job.work.path(job.name, f".{kind}.npy"), array)
    return job.work.finish(
        job.name,
        {
            "kept": len(lengths),
            "short": num_short,
            "tokens": sum(lengths),
            "mismatches": encoder.num_mismatches,
        },
    )


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smaller of the two dtypes that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def document_hash(source: str, id: str) -> int:
    """The number a document is known by in the shards."""
    return xxhash.xxh3_64_intdigest(f"{source}/{id}".encode())
