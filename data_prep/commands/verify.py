"""`verify FOLDER|RECIPE`: compare every block of a corpus with its manifest.

Each damaged file is named with block and bytes, and at the end the command that repairs just the
shards they belong to. Ends with exit code 3 if anything is damaged.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import join, quote
from typing import Any

import xxhash

from data_prep.commands import corpus
from data_prep.progress import Progress
from data_prep.shards import BLOCK_BYTES, read_manifest, tokenizer_facts
from runtime import provenance
from runtime.errors import DataError


@dataclass(frozen=True)
class ShardFile:
    """A file of a shard and what the manifest says of it."""

    shard: str  # SOURCE/NAME
    path: Path
    size: int  # bytes
    blocks: tuple[str, ...]  # xxh3_64 of each BLOCK_BYTES


@dataclass(frozen=True)
class Damage:
    """One thing wrong with a shard."""

    shard: str
    message: str


def add_arguments(parser: ArgumentParser) -> None:
    corpus.add_arguments(parser)


def run(found: Namespace) -> None:
    folder = corpus.folder_of(found)
    manifest = read_manifest(folder)
    tokenizer_facts(folder / "tokenizer", manifest["tokenizer"])
    files = list(files_of(folder, manifest))
    damages = check_all(files)
    if damages:
        raise DataError(report(folder, manifest, damages))
    size = sum(file.size for file in files)
    num_blocks = sum(len(file.blocks) for file in files)
    print(
        f"{folder}: {len(files)} files, {num_blocks} blocks, {size / 1e6:,.1f} MB, all as written"
    )


def files_of(folder: Path, manifest: dict[str, Any]) -> Iterator[ShardFile]:
    for source, entry in manifest["sources"].items():
        for split in entry["splits"].values():
            for shard in split["shards"]:
                for kind, file in shard["files"].items():
                    path = folder / "sources" / source / f"{shard['name']}.{kind}.npy"
                    shard_name = f"{source}/{shard['name']}"
                    yield ShardFile(shard_name, path, file["bytes"], tuple(file["blocks"]))


def check_all(files: list[ShardFile]) -> list[Damage]:
    """Read all files, with progress on the console; return what is wrong, in the files' order."""
    sizes = [
        min(BLOCK_BYTES, file.size - place * BLOCK_BYTES)
        for file in files
        for place in range(len(file.blocks))
    ]
    damages: list[Damage] = []
    done = 0
    with Progress(num_workers=1).track("verify", sizes, range(len(sizes)), "blocks") as advance:
        for file in files:
            for message in faults(file, done, advance):
                damages.append(Damage(file.shard, f"{file.path}: {message}"))
            done += len(file.blocks)
    return damages


def faults(file: ShardFile, first: int, advance: Callable[[int], None]) -> Iterator[str]:
    """What is wrong with a file; `advance` is told of each block, the first of which is `first`."""
    try:
        found = file.path.stat().st_size
        with file.path.open("rb") as opened:
            for place, expected in enumerate(file.blocks):
                begin, end = place * BLOCK_BYTES, min((place + 1) * BLOCK_BYTES, file.size)
                content = opened.read(end - begin)
                where = f"block {place} (bytes {begin} to {end})"
                if len(content) < end - begin:
                    yield (
                        f"{where} is cut off: the file has {found} bytes, the manifest says "
                        f"{file.size}"
                    )
                elif (actual := xxhash.xxh3_64_hexdigest(content)) != expected:
                    yield f"{where} is damaged: its hash is {actual}, the manifest says {expected}"
                advance(first + place)
        if found > file.size:
            yield f"has {found - file.size} bytes more than the manifest says ({file.size})"
    except OSError as error:
        yield f"all {len(file.blocks)} blocks (bytes 0 to {file.size}): {error.strerror or error}"


def report(folder: Path, manifest: dict[str, Any], damages: list[Damage]) -> str:
    """All damages and what to do about them."""
    shards = list(dict.fromkeys(damage.shard for damage in damages))
    lines = [f"{len(shards)} shards of {folder} are damaged", *(item.message for item in damages)]
    if "repacked_from" in manifest:
        return "\n".join([*lines, repack_again(folder, manifest)])
    names = " ".join(quote(shard) for shard in shards)
    command = f"python -m data_prep repair {quote(str(folder))} {names}"
    return "\n".join([*lines, "repair just them, from the inputs they came from:", command])


def repack_again(folder: Path, manifest: dict[str, Any]) -> str:
    """What to do about a corpus that was made from another one's shards."""
    record = folder / "run.json"
    found = provenance.read_json(record)["command"][1:] if record.is_file() else []
    command = f"python -m data_prep {join(found or ['repack', 'FOLDER', str(folder)])}"
    return (
        f"it was repacked from the corpus {manifest['repacked_from']}: remove {folder}, then run "
        f"the same again:\n{command}"
    )
