"""What a manifest must say before any file it names is opened.

A manifest may come from anywhere. Names must be plain names of files in its own folder; counts and
sizes must be numbers that fit each other. So nothing outside the folder is ever mapped, and no file
that is not as large as its array.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.blocks import AGAIN, BLOCK_BYTES
from runtime.errors import DataError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of sources and shards: no slash, no leading dot
HASH = re.compile(r"[0-9a-f]{16}")
DTYPES = {
    "tokens": {"uint16": 2, "uint32": 4},
    "lengths": {"int32": 4},
    "offsets": {"int64": 8},
    "documents": {"uint64": 8},
    "starts": {"int64": 8},
}
MOST = 1 << 48  # of anything counted
MOST_HEADER_BYTES = 1 << 12  # of a .npy file; today 128

Entry = Mapping[str, Any]


def check_manifest(path: Path, manifest: Entry) -> None:
    """Raise DataError for a name that could lead out of the folder and for impossible counts."""
    try:
        length = count(manifest, "sequence_length", 1)
        for name in manifest["tokenizer"].get("files", {}):
            check_name("tokenizer file", name)
        for source, entry in manifest["sources"].items():
            check_name("source", source)
            for split in ("train", "valid"):
                check_split(entry["splits"][split], length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: {what}; {AGAIN}") from None


def check_split(split: Entry, sequence_length: int) -> None:
    """Shards with names of their own that add up to the counts of the split."""
    names = set()
    for shard in split["shards"]:
        check_name("shard", shard["name"])
        if shard["name"] in names:
            raise ValueError(f"shard {shard['name']} is listed twice")
        names.add(shard["name"])
        try:
            check_shard(shard, sequence_length)
        except ValueError as error:
            raise ValueError(f"shard {shard['name']}: {error}") from None
    count(split, "num_documents")
    for key in ("num_samples", "num_tokens"):
        total = sum(shard[key] for shard in split["shards"])
        if count(split, key) != total:
            raise ValueError(f"{key} is {split[key]}, its shards have {total}")


def check_shard(shard: Entry, sequence_length: int) -> None:
    """Files exactly as large as the arrays they hold."""
    samples, segments = count(shard, "num_samples", 1), count(shard, "num_segments", 1)
    tokens = count(shard, "num_tokens", 1)
    if not samples <= segments <= tokens <= samples * sequence_length:
        raise ValueError(
            f"{samples} samples of {sequence_length} cannot hold {segments} segments and "
            f"{tokens} tokens"
        )
    rows = {
        "tokens": samples * sequence_length,
        "lengths": segments,
        "offsets": samples + 1,
        "documents": segments,
        "starts": segments,
    }
    if set(shard["files"]) != set(rows):
        raise ValueError(f"files {sorted(shard['files'])}, expected {sorted(rows)}")
    for kind, file in shard["files"].items():
        check_file(kind, file, rows[kind])


def check_file(kind: str, file: Entry, num_values: int) -> None:
    """The size of a file and its blocks."""
    width = DTYPES[kind].get(file["dtype"])
    if width is None:
        raise ValueError(f"{kind} of dtype {file['dtype']!r}, expected one of {[*DTYPES[kind]]}")
    size = count(file, "bytes")
    if not 0 < size - num_values * width <= MOST_HEADER_BYTES:
        raise ValueError(
            f"{kind} has {size} bytes, which is not the size of {num_values} {file['dtype']}"
        )
    blocks = file["blocks"]
    if len(blocks) != -(-size // BLOCK_BYTES) or not all(map(HASH.fullmatch, blocks)):
        raise ValueError(f"{kind}: {size} bytes do not have these {len(blocks)} block hashes")


def check_name(kind: str, name: Any) -> None:
    """A plain name, which cannot lead out of a folder."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"the {kind} name {name!r} is not letters, digits, '_', '-' and '.', beginning with a "
            "letter or digit"
        )


def count(entry: Entry, key: str, least: int = 0) -> int:
    """A whole number in a sensible range."""
    value = entry[key]
    if type(value) is not int or not least <= value <= MOST:
        raise ValueError(f"{key} is {value!r}, expected a whole number of at least {least}")
    return value
