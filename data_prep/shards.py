"""The shard format: how samples are written, opened, verified and read.

A data folder holds

    manifest.json                       written last; see `data_prep/build.py` for what it counts
    tokenizer/                          loadable by AutoTokenizer; token_bytes.npy int32 (V,)
    sources/<source>/<split>-<number>.{tokens,lengths,offsets,documents,starts}.npy

Each shard is five plain .npy files:

    tokens     uint16 or uint32 (N, T): samples; padding (pad_id) stands at the end of a sample only
    lengths    int32 (M,): tokens of each segment, separators included, sample after sample
    offsets    int64 (N + 1,): segments of sample n are lengths[offsets[n] : offsets[n + 1]]
    documents  uint64 (M,): document of each segment, xxh3_64 of "source/id"
    starts     int64 (M,): where the segment's text begins in the text of the shard: its documents
               in the order of the input, without separators, one place left free after each

A segment is [CLS] text [SEP]. The manifest keeps the size of every file and an xxh3_64 of each
4 MiB block of its bytes. Opening compares names and sizes; a file is mapped when it is first read,
a block checked when something in it is, or all of them by `verify`. A fault is a DataError that
names the file and the block.
"""

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from shlex import join
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from data_prep.blocks import AGAIN as AGAIN  # read by others from here, as part of the format
from data_prep.blocks import BLOCK_BYTES as BLOCK_BYTES
from data_prep.blocks import BlockFile, Checks, check_size, write_array
from data_prep.manifest_checks import check_manifest
from runtime import provenance
from runtime.errors import DataError
from runtime.stages import MANIFEST

Split = Literal["train", "valid"]

FORMAT = "textmill-shards/2"
KINDS = ("tokens", "lengths", "offsets", "documents", "starts")
SPLITS: tuple[Split, ...] = ("train", "valid")
MOST_MAPPED = 1 << 12  # files at a time for one reader; each is an open file, too
LEAST_MAPPED = 1 << 4  # in any case: those that one sample is read from, and a few more
MOST_MAPPINGS = 1 << 15  # of all readers; systems allow about 65,000 a process
MOST_SIZES_AT_OPENING = 1 << 12  # files; every rank looks at them
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

    tokens: NDArray[np.unsignedinteger[Any]]  # (n, T), as stored
    lengths: NDArray[np.int32]  # (segments,) tokens of each segment, sample after sample
    counts: Int64  # (n,) segments of each sample
    documents: NDArray[np.uint64]  # (segments,)


def write_shard(
    folder: Path,
    name: str,
    tokens: Iterable[NDArray[Any]],
    lengths: NDArray[np.int32],
    offsets: Int64,
    documents: NDArray[np.uint64],
    starts: Int64,
) -> dict[str, Any]:
    """Write the files of a shard, each whole or not at all; return its manifest entry.

    `tokens` are arrays of samples, taken one at a time.
    """
    num_samples = len(offsets) - 1
    parts = iter(tokens)
    first = next(parts)
    shape = (num_samples, first.shape[1])
    path = folder / f"{name}.tokens.npy"
    files = {"tokens": write_array(path, chain([first], parts), shape)}
    arrays: dict[str, NDArray[Any]] = {
        "lengths": lengths, "offsets": offsets, "documents": documents, "starts": starts
    }  # fmt: skip
    for kind, array in arrays.items():
        files[kind] = write_array(folder / f"{name}.{kind}.npy", iter([array]), array.shape)
    provenance.fsync_folder(folder)
    return {
        "name": name,
        "num_samples": num_samples,
        "num_segments": len(lengths),
        "num_tokens": int(lengths.sum()),
        "files": files,
    }


def shapes_of(entry: Mapping[str, Any], sequence_length: int) -> dict[str, tuple[int, ...]]:
    """The shape of each file of a shard."""
    samples, segments = entry["num_samples"], entry["num_segments"]
    return {
        "tokens": (samples, sequence_length),
        "lengths": (segments,),
        "offsets": (samples + 1,),
        "documents": (segments,),
        "starts": (segments,),
    }


def split_of(entries: list[dict[str, Any]], sequence_length: int) -> dict[str, Any]:
    """Counts of a split and its shards."""
    totals = {
        key: sum(entry[key] for entry in entries)
        for key in ("num_samples", "num_tokens", "num_segments", "num_documents", "documents_cut")
    }
    padding = totals["num_samples"] * sequence_length - totals["num_tokens"]
    own = ("name", "num_samples", "num_segments", "num_tokens", "num_documents", "units",
           "files")  # fmt: skip
    return totals | {
        "padding_tokens": padding,
        "shards": [{key: entry[key] for key in own} for entry in entries],
    }


class Reader:
    """Random access to the samples of one source and split. Maps a file when it is first read."""

    def __init__(self, folder: Path, facts: dict[str, Any], sequence_length: int) -> None:
        self.folder = folder
        self.sequence_length = sequence_length
        self.num_samples: int = facts["num_samples"]
        self.num_tokens: int = facts["num_tokens"]  # without padding
        self.num_documents: int = facts["num_documents"]
        self.entries: list[dict[str, Any]] = facts["shards"]
        sizes = [entry["num_samples"] for entry in self.entries]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self.mapped: dict[tuple[int, str], BlockFile] = {}
        self.checks: dict[tuple[int, str], Checks] = {}  # of files that were closed again
        READERS.add(self)

    def file(self, shard: int, kind: str) -> BlockFile:
        """A file of a shard. Of the files mapped the oldest is closed if there are too many."""
        found = self.mapped.get((shard, kind))
        if found is None:
            entry = self.entries[shard]
            path = self.folder / f"{entry['name']}.{kind}.npy"
            shape = shapes_of(entry, self.sequence_length)[kind]
            found = BlockFile(path, entry["files"][kind], shape, repairing(path))
            while len(self.mapped) >= most_mapped():
                oldest = next(iter(self.mapped))
                self.checks[oldest] = self.mapped.pop(oldest).checks
            if (shard, kind) in self.checks:
                found.recall(self.checks.pop((shard, kind)))
            self.mapped[shard, kind] = found
        return found

    def gather(self, samples: Int64) -> Rows:
        """The given samples, in the given order. Raises DataError if a block is damaged."""
        samples, back, runs = self.on_disk(samples)
        tokens = self.tokens_of(samples, runs)
        begins, ends = np.empty(len(samples), np.int64), np.empty(len(samples), np.int64)
        for shard, part in runs:
            offsets, local = self.file(shard, "offsets"), samples[part] - self.starts[shard]
            offsets.rows(local, out=begins[part])
            offsets.rows(local + 1, out=ends[part])
        counts = ends - begins
        sums = np.concatenate([[0], np.cumsum(counts)])
        segments = ranges(begins, counts)
        lengths = np.empty(len(segments), np.int32)
        documents = np.empty(len(segments), np.uint64)
        for shard, part in runs:
            inner = slice(sums[part.start], sums[part.stop])
            self.file(shard, "lengths").rows(segments[inner], out=lengths[inner])
            self.file(shard, "documents").rows(segments[inner], out=documents[inner])
        if back is None:
            return Rows(tokens, lengths, counts, documents)
        order = ranges(sums[:-1][back], counts[back])
        return Rows(np.take(tokens, back, axis=0), lengths[order], counts[back], documents[order])

    def tokens(self, samples: Int64) -> NDArray[np.unsignedinteger[Any]]:
        """The tokens (n, T) alone of the given samples, in the given order."""
        samples, back, runs = self.on_disk(samples)
        tokens = self.tokens_of(samples, runs)
        return tokens if back is None else np.take(tokens, back, axis=0)

    def on_disk(self, samples: Int64) -> tuple[Int64, Int64 | None, list[tuple[int, slice]]]:
        """Samples in the order of the disk, where each of them is then (None: unmoved), and the
        shards with their parts."""
        samples = np.asarray(samples, np.int64)
        if len(samples) and not 0 <= samples.min() <= samples.max() < self.num_samples:
            raise IndexError(f"samples must be in [0, {self.num_samples}), given {samples}")
        back = None
        if (samples[1:] < samples[:-1]).any():
            order = np.argsort(samples, kind="stable")
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            samples = samples[order]
        if not len(samples):
            return samples, back, []
        ends = [samples[0], samples[-1]]
        first, last = (np.searchsorted(self.starts, ends, side="right") - 1).tolist()
        inner = np.searchsorted(samples, self.starts[first + 1 : last + 1]).tolist()
        parts = pairwise([0, *inner, len(samples)])
        return samples, back, [(first + n, slice(a, b)) for n, (a, b) in enumerate(parts) if a < b]

    def tokens_of(
        self, samples: Int64, runs: list[tuple[int, slice]]
    ) -> NDArray[np.unsignedinteger[Any]]:
        """The tokens (n, T) of samples in the order of the disk."""
        dtype = self.entries[0]["files"]["tokens"]["dtype"] if self.entries else "uint16"
        tokens = np.empty((len(samples), self.sequence_length), dtype)
        for shard, part in runs:
            self.file(shard, "tokens").rows(samples[part] - self.starts[shard], out=tokens[part])
        return tokens


READERS: WeakSet[Reader] = WeakSet()  # of this process, which share its open files


def most_mapped() -> int:
    """How many files a reader may map: readers get equal parts of half of what may be open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    together = MOST_MAPPINGS if limit == resource.RLIM_INFINITY else min(MOST_MAPPINGS, limit // 2)
    return min(MOST_MAPPED, max(LEAST_MAPPED, together // max(1, len(READERS))))


def allow_open_files() -> None:
    """Let this process open as many files as readers may map, as far as the system lets it: where
    few may be open, blocks are mapped, and checked, again and again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_MAPPINGS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def repairing(path: Path) -> str:
    """What to do about damage in a file of a shard."""
    shard = f"{path.parent.name}/{path.name.partition('.')[0]}"
    command = join(["python", "-m", "data_prep", "repair", str(path.parents[2]), shard])
    return f"`{command}` writes this shard anew; then run the same command again"


def ranges(starts: Int64, counts: Int64) -> Int64:
    """The numbers from each start on, `counts` of each, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - ends + counts, counts)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, itself unchanged; no file it names is looked at. Raises DataError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder} holds no finished corpus (no {MANIFEST}); run `python -m data_prep` first"
        )
    manifest = provenance.read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise DataError(f"{path}: format {found!r}, this version reads {FORMAT}; {AGAIN}")
    is_as_written = provenance.is_as_written(path.read_bytes(), manifest)
    if not is_as_written or manifest_fingerprint(manifest) != manifest.get("fingerprint"):
        raise DataError(f"{path} was changed after it was written; {AGAIN}")
    check_manifest(path, manifest)
    return manifest


class Corpus:
    """A finished data folder."""

    def __init__(self, folder: Path) -> None:
        """Open and validate names, counts, sizes and fingerprints; raises DataError.

        Maps no shard. In a very large corpus the sizes of the first files alone are compared, so
        that opening does not wait for a file system; every file's when it is first read.
        """
        self.folder = folder
        manifest = read_manifest(folder)
        self.manifest = manifest
        self.fingerprint: str = manifest["fingerprint"]
        self.sequence_length: int = manifest["sequence_length"]
        self.tokenizer = tokenizer_facts(folder / "tokenizer", manifest["tokenizer"])
        self.sources = {
            name: SourceFacts(entry["domain"], entry["documents"], entry["splits"])
            for name, entry in manifest["sources"].items()
        }
        for _, path, entry in islice(self.files(), MOST_SIZES_AT_OPENING):
            check_size(path, entry["bytes"], repairing(path))

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
        faults: list[str] = []
        for source in self.sources:
            for split in SPLITS:
                reader = self.reader(source, split)
                for shard, entry in enumerate(reader.entries):
                    for kind in entry["files"]:
                        faults += reader.file(shard, kind).faults()
        if faults:
            raise DataError("\n".join(faults))


def manifest_fingerprint(manifest: dict[str, Any]) -> str:
    """Fingerprint of a corpus: of all its manifest says, block hashes included."""
    return provenance.fingerprint({k: v for k, v in manifest.items() if k != "fingerprint"})


def tokenizer_facts(folder: Path, entry: dict[str, Any]) -> TokenizerFacts:
    """The tokenizer of a corpus. Raises DataError if a file of it is not the one that stood beside
    the shards when they were written."""
    named = {"tokenizer.json": entry["fingerprint"], **entry.get("files", {})}  # older: no files
    for name, expected in named.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; {AGAIN}")
        found = provenance.file_fingerprint(path)
        if found != expected:
            raise DataError(
                f"{path} ({found}) is not the tokenizer that wrote the shards ({expected}); {AGAIN}"
            )
    ids = {name: entry[name] for name in ("pad_id", "cls_id", "sep_id", "mask_id", "unk_id")}
    special: Sequence[int] = entry["special_ids"]
    return TokenizerFacts(entry["vocab_size"], **ids, special_ids=tuple(special),
                          fingerprint=entry["fingerprint"], folder=folder)  # fmt: skip


def tokenizer_files(folder: Path) -> dict[str, str]:
    """Fingerprints of the files of a tokenizer, for the manifest."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: provenance.file_fingerprint(path) for path in files}
