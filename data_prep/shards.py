"""The shard format: how samples are written, opened, verified and read.

A data folder holds

    manifest.json                       written last; see `data_prep/build.py` for what it counts
    tokenizer/                          loadable by AutoTokenizer; token_bytes.npy int32 (V,)
    sources/<source>/<split>-<number>.{tokens,lengths,offsets,documents}.npy

Each shard is four plain .npy files:

    tokens     uint16 or uint32 (N, T): samples; padding (pad_id) stands at the end of a sample only
    lengths    int32 (M,): tokens of each segment, separators included, sample after sample
    offsets    int64 (N + 1,): segments of sample n are lengths[offsets[n] : offsets[n + 1]]
    documents  uint64 (M,): document of each segment, xxh3_64 of "source/id"

A segment is [CLS] text [SEP]. The manifest keeps the size of every file and an xxh3_64 of each
4 MiB block of its bytes. Opening compares names and sizes; a block is checked when it is first
read, or all of them by `verify`. A fault is a DataError that names the file and the block.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from runtime import provenance
from runtime.errors import DataError
from runtime.stages import MANIFEST

FORMAT = "textmill-shards/1"
BLOCK_BYTES = 1 << 22
KINDS = ("tokens", "lengths", "offsets", "documents")

Split = Literal["train", "valid"]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class TokenizerFacts:
    """What training needs to know of the tokenizer."""

    vocab_size: int
    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    unk_id: int
    special_ids: tuple[int, ...]
    fingerprint: str  # of tokenizer.json
    folder: Path

    def token_bytes(self) -> NDArray[np.int32]:
        """(V,) UTF-8 bytes that each token spells; 0 for special tokens."""
        return np.asarray(np.load(self.folder / "token_bytes.npy"), np.int32)


@dataclass(frozen=True)
class SourceFacts:
    """What the manifest says of a source."""

    domain: str
    documents: dict[str, Any]  # read, kept, dropped by reason
    splits: dict[str, dict[str, Any]]  # per split: num_samples, num_tokens, shards...


@dataclass(frozen=True)
class Rows:
    """Samples in the order they were asked for."""

    tokens: NDArray[np.int32]  # (n, T)
    lengths: NDArray[np.int32]  # (segments,) tokens of each segment, sample after sample
    counts: Int64  # (n,) segments of each sample
    documents: NDArray[np.uint64]  # (segments,)


def write_shard(
    folder: Path,
    name: str,
    tokens: NDArray[Any] | Iterable[NDArray[Any]],
    lengths: NDArray[np.int32],
    offsets: Int64,
    documents: NDArray[np.uint64],
    starts: Int64 | None = None,
) -> dict[str, Any]:
    """Write the files of a shard, each whole or not at all; return its manifest entry.

    `tokens` are arrays of samples, taken one at a time.
    """
    num_samples = len(offsets) - 1
    parts = iter([tokens] if isinstance(tokens, np.ndarray) else tokens)
    first = next(parts)
    files = {
        "tokens": write_array(
            folder, name, "tokens", chain([first], parts), (num_samples, first.shape[1])
        )
    }
    arrays: dict[str, NDArray[Any] | None] = {
        "lengths": lengths, "offsets": offsets, "documents": documents, "starts": starts
    }  # fmt: skip
    for kind, array in arrays.items():
        if array is not None:
            files[kind] = write_array(folder, name, kind, iter([array]), array.shape)
    provenance.fsync_folder(folder)
    return {
        "name": name,
        "num_samples": num_samples,
        "num_segments": len(lengths),
        "num_tokens": int(lengths.sum()),
        "files": files,
    }


def write_array(
    folder: Path, name: str, kind: str, parts: Iterator[NDArray[Any]], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Write one .npy file, whole or not at all, from arrays that make up the one of this shape;
    return its size and the hashes of its blocks. The folder is not fsynced."""
    path = folder / f"{name}.{kind}.npy"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    first = next(parts)
    header = io.BytesIO()
    facts = {"descr": first.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    hashes = BlockHashes()
    try:
        with temporary.open("wb") as file:
            for content in chain([header.getbuffer()], map(as_bytes, chain([first], parts))):
                file.write(content)
                hashes.update(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return {"bytes": hashes.num_bytes, "dtype": first.dtype.name, "blocks": hashes.finish()}


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of an array as a file holds them."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class BlockHashes:
    """xxh3_64 of each block of the bytes that pass."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self.done: list[str] = []
        self.open = xxhash.xxh3_64()

    def update(self, content: memoryview) -> None:
        while len(content):
            room = BLOCK_BYTES - self.num_bytes % BLOCK_BYTES
            part, content = content[:room], content[room:]
            self.open.update(part)
            self.num_bytes += len(part)
            if len(part) == room:
                self.done.append(self.open.hexdigest())
                self.open.reset()

    def finish(self) -> list[str]:
        """The hash of each block, the last one shorter than the others."""
        if self.num_bytes % BLOCK_BYTES:
            self.done.append(self.open.hexdigest())
        return self.done


class BlockFile:
    """One mapped .npy file whose blocks are checked before they are used."""

    def __init__(self, path: Path, entry: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.path = path
        self.blocks: list[str] = entry["blocks"]
        check_size(path, entry["bytes"])
        try:
            self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable .npy file ({error}); {AGAIN}") from None
        if self.array.shape != shape or self.array.dtype.name != entry["dtype"]:
            raise DataError(
                f"{path}: holds {self.array.dtype} {self.array.shape}, the manifest says "
                f"{entry['dtype']} {shape}; {AGAIN}"
            )
        self.bytes_per_row = self.array.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self.header_bytes = entry["bytes"] - self.array.nbytes
        self.is_checked = np.zeros(len(self.blocks), bool)

    def rows(self, index: Int64) -> NDArray[Any]:
        """The rows at these places, each from a checked block."""
        first = (index * self.bytes_per_row + self.header_bytes) // BLOCK_BYTES
        last = ((index + 1) * self.bytes_per_row + self.header_bytes - 1) // BLOCK_BYTES
        for distance in range(int((last - first).max(initial=0)) + 1):
            touched = np.minimum(first + distance, last)
            for block in np.unique(touched[~self.is_checked[touched]]):
                self.check(int(block))
        return np.asarray(self.array[index])

    def check(self, block: int) -> None:
        """Compare one block with the manifest."""
        with self.path.open("rb") as file:
            file.seek(block * BLOCK_BYTES)
            found = xxhash.xxh3_64_hexdigest(file.read(BLOCK_BYTES))
        if found != self.blocks[block]:
            raise DataError(
                f"{self.path}: block {block} (bytes {block * BLOCK_BYTES} to "
                f"{(block + 1) * BLOCK_BYTES}) is damaged: its hash is {found}, the manifest says "
                f"{self.blocks[block]}; {AGAIN}"
            )
        self.is_checked[block] = True


AGAIN = "remove the data folder and run `python -m data_prep` again"


def check_size(path: Path, expected: int) -> None:
    """Raise DataError if a file is missing or not exactly as long as the manifest says."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {AGAIN}") from None
    if found != expected:
        block = min(found, expected) // BLOCK_BYTES
        raise DataError(
            f"{path}: {found} bytes, the manifest says {expected}: "
            f"{'truncated' if found < expected else 'changed'} from block {block} on; {AGAIN}"
        )


class Shard:
    """The four files of one shard."""

    def __init__(self, folder: Path, entry: dict[str, Any], sequence_length: int) -> None:
        samples, segments = entry["num_samples"], entry["num_segments"]
        shapes = ((samples, sequence_length), (segments,), (samples + 1,), (segments,))
        self.files = {
            kind: BlockFile(folder / f"{entry['name']}.{kind}.npy", entry["files"][kind], shape)
            for kind, shape in zip(KINDS, shapes, strict=True)
        }


class Reader:
    """Random access to the samples of one source and split."""

    def __init__(self, folder: Path, facts: dict[str, Any], sequence_length: int) -> None:
        self.sequence_length = sequence_length
        self.num_samples: int = facts["num_samples"]
        self.num_tokens: int = facts["num_tokens"]  # without padding
        self.num_documents: int = facts["num_documents"]
        self.shards = [Shard(folder, entry, sequence_length) for entry in facts["shards"]]
        sizes = [entry["num_samples"] for entry in facts["shards"]]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    def gather(self, samples: Int64) -> Rows:
        """The given samples, in the given order. Raises DataError if a block is damaged."""
        samples = np.asarray(samples, np.int64)
        if len(samples) and not 0 <= samples.min() <= samples.max() < self.num_samples:
            raise IndexError(f"samples must be in [0, {self.num_samples}), given {samples}")
        shard_of = np.searchsorted(self.starts, samples, side="right") - 1
        tokens = np.empty((len(samples), self.sequence_length), np.int32)
        begins, counts = np.empty(len(samples), np.int64), np.empty(len(samples), np.int64)
        places = [(number, np.flatnonzero(shard_of == number)) for number in np.unique(shard_of)]
        for number, place in places:
            files, local = self.shards[number].files, samples[place] - self.starts[number]
            tokens[place] = files["tokens"].rows(local)
            begins[place] = files["offsets"].rows(local)
            counts[place] = files["offsets"].rows(local + 1) - begins[place]
        lengths = np.empty(int(counts.sum()), np.int32)
        documents = np.empty(len(lengths), np.uint64)
        outputs = np.cumsum(counts) - counts
        for number, place in places:
            files = self.shards[number].files
            segment = ranges(begins[place], counts[place])
            output = ranges(outputs[place], counts[place])
            lengths[output] = files["lengths"].rows(segment)
            documents[output] = files["documents"].rows(segment)
        return Rows(tokens, lengths, counts, documents)


def ranges(starts: Int64, counts: Int64) -> Int64:
    """The numbers from each start on, `counts` of each, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - ends + counts, counts)


class Corpus:
    """A finished data folder."""

    def __init__(self, folder: Path) -> None:
        """Open and validate names, sizes and fingerprints; raises DataError. Reads no shard yet."""
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise DataError(f"{folder} holds no finished corpus; run `python -m data_prep` first")
        manifest = provenance.read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise DataError(f"{folder / MANIFEST}: not a {FORMAT} manifest; {AGAIN}")
        if manifest_fingerprint(manifest) != manifest.get("fingerprint"):
            raise DataError(f"{folder / MANIFEST} was changed after it was written; {AGAIN}")
        self.manifest: dict[str, Any] = manifest
        self.fingerprint: str = manifest["fingerprint"]
        self.sequence_length: int = manifest["sequence_length"]
        self.tokenizer = tokenizer_facts(folder / "tokenizer", manifest["tokenizer"])
        self.sources = {
            name: SourceFacts(entry["domain"], entry["documents"], entry["splits"])
            for name, entry in manifest["sources"].items()
        }
        for _, path, entry in self.files():
            check_size(path, entry["bytes"])

    def files(self) -> Iterator[tuple[str, Path, dict[str, Any]]]:
        """Every shard file with its manifest entry."""
        for name, facts in self.sources.items():
            for split in facts.splits.values():
                for shard in split["shards"]:
                    for kind, entry in shard["files"].items():
                        path = self.folder / "sources" / name / f"{shard['name']}.{kind}.npy"
                        yield name, path, entry

    def reader(self, source: str, split: Split) -> Reader:
        """Open the shards of one source and split."""
        if source not in self.sources:
            known = ", ".join(self.sources)
            raise DataError(f"no source {source!r} in {self.folder}; it has: {known}")
        facts = self.sources[source].splits[split]
        return Reader(self.folder / "sources" / source, facts, self.sequence_length)

    def verify(self) -> None:
        """Check every block of every shard. Raises DataError naming all damaged ones."""
        faults = []
        for source in self.sources:
            for split in ("train", "valid"):
                for shard in self.reader(source, split).shards:
                    for file in shard.files.values():
                        faults += block_faults(file)
        if faults:
            raise DataError("\n".join(faults))


def block_faults(file: BlockFile) -> list[str]:
    """The message of each damaged block of a file."""
    faults = []
    for block in range(len(file.blocks)):
        try:
            file.check(block)
        except DataError as error:
            faults.append(str(error))
    return faults


def manifest_fingerprint(manifest: dict[str, Any]) -> str:
    """Fingerprint of a corpus: of all its manifest says, block hashes included."""
    return provenance.fingerprint({k: v for k, v in manifest.items() if k != "fingerprint"})


def tokenizer_facts(folder: Path, entry: dict[str, Any]) -> TokenizerFacts:
    """The tokenizer of a corpus. Raises DataError if its file is not the one the shards were
    written with."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; {AGAIN}")
    found = provenance.file_fingerprint(path)
    if found != entry["fingerprint"]:
        raise DataError(
            f"{path} ({found}) is not the tokenizer that wrote the shards "
            f"({entry['fingerprint']}); {AGAIN}"
        )
    ids = {name: entry[name] for name in ("pad_id", "cls_id", "sep_id", "mask_id", "unk_id")}
    special: Sequence[int] = entry["special_ids"]
    return TokenizerFacts(entry["vocab_size"], **ids, special_ids=tuple(special),
                          fingerprint=found, folder=folder)  # fmt: skip
