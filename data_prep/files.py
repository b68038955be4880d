"""Files through fsspec: finding them, opening them with compression undone, reading bounded lines.

Local paths and any fsspec URL work alike. What a file is compressed with is told by its name. A
truncated or damaged compressed file raises `Damaged` at the point where it breaks, after everything
before has been read (zstandard's own stream reader would end there without a word).
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import fsspec
import zstandard
from fsspec.core import url_to_fs

from data_prep.sources import InputFile, Part, Source
from runtime.errors import DataError

SKIP_BYTES = 1 << 20
READ_BYTES = 1 << 18
PACKED_BYTES = 1 << 9  # unpacked at a time; the worst of it becomes 16 MiB
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


class Damaged(Exception):
    """A file that cannot be read further; the message says why."""


def find(params: Source) -> list[InputFile]:
    """The files of a source: for each path in turn, sorted by name. Raises DataError if none."""
    found: dict[str, InputFile] = {}
    for path in (params.path,) if isinstance(params.path, str) else params.path:
        try:
            fs, root = url_to_fs(path)
            if "*" in root or "?" in root or "[" in root:
                names = [name for name in fs.glob(root) if not fs.isdir(name)]
            elif fs.isdir(root):
                names = [name for name in fs.find(root) if not is_hidden(name, root)]
            else:
                names = [root] if fs.exists(root) else []
            if not names:
                raise DataError(f"no file at {path!r}; check `path` of the source")
            for name in sorted(names):
                info = fs.info(name)
                version = info.get("mtime") or info.get("ETag") or info.get("LastModified") or ""
                # fsspec knows local files by absolute path; URLs need their protocol back.
                url = name if fs.protocol[0] == "file" else fs.unstrip_protocol(name)
                found[url] = InputFile(url, int(info.get("size") or 0), str(version))
        except DataError:
            raise
        except (OSError, ValueError, ImportError) as error:
            raise DataError(f"cannot look up {path!r}: {error}") from None
    return list(found.values())


def is_hidden(name: str, root: str) -> bool:
    inside = name[len(root) :] if name.startswith(root) else name
    return any(part.startswith(".") for part in inside.split("/"))


def id_prefixes(files: list[InputFile]) -> dict[str, str]:
    """A short name for each file, unique among them and the same wherever the folder lies."""
    if len({PurePosixPath(file.path).name for file in files}) == len(files):
        return {file.path: PurePosixPath(file.path).name for file in files}
    parts = [PurePosixPath(file.path).parts for file in files]
    shared = 0
    while len({part[shared] for part in parts if len(part) > shared}) == 1:
        shared += 1
    return {file.path: "/".join(part[shared:]) for file, part in zip(files, parts, strict=True)}


def whole_parts(params: Source) -> Iterator[Part]:
    """Each file of a source as one part."""
    files = find(params)
    prefixes = id_prefixes(files)
    for file in files:
        yield Part(file.path, 0, file.size, file.size, prefixes[file.path])


def byte_range_parts(params: Source) -> Iterator[Part]:
    """Files as ranges of `unit_bytes`; a compressed one cannot be split and stays whole."""
    for part in whole_parts(params):
        if part.path.endswith(COMPRESSED) or part.size <= params.unit_bytes:
            yield part
            continue
        for start in range(0, part.size, params.unit_bytes):
            end = min(start + params.unit_bytes, part.size)
            yield Part(part.path, start, end, end - start, part.id_prefix)


def open_file(path: str) -> BinaryIO:
    """Open for reading, decompressed. Raises DataError if it cannot be opened."""
    try:
        raw = cast(BinaryIO, fsspec.open(path, "rb").open())
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"cannot read {path}: {error}; check the path and its permissions"
        ) from None
    if path.endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if path.endswith(".bz2"):
        return cast(BinaryIO, bz2.BZ2File(raw))
    if path.endswith(".xz"):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if path.endswith(".zst"):
        return cast(BinaryIO, io.BufferedReader(ZstandardFile(raw), READ_BYTES))
    return raw


class ZstandardFile(io.RawIOBase):
    """Reads the frames of a .zst file; one that ends too early is an EOFError."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.is_inside = False
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        while not self.ready:
            left_over = self.frame.unused_data if self.frame.eof else b""
            if self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
                self.is_inside = False
            packed = left_over or self.raw.read(PACKED_BYTES)
            if not packed:
                if self.is_inside:
                    raise EOFError("compressed file ended before its end-of-stream marker")
                return 0
            self.is_inside = True
            self.ready = memoryview(self.frame.decompress(packed))
        size = min(len(target), len(self.ready))
        target[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()


BROKEN = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile)


@dataclass(frozen=True)
class Line:
    """One line of a part, without its end."""

    offset: int  # bytes from the beginning of the decompressed file
    content: bytes  # the beginning only if it is too long
    is_too_long: bool


def lines(part: Part, max_bytes: int) -> Iterator[Line]:
    """The lines that begin inside a part. Raises Damaged where the file breaks."""
    is_whole = part.path.endswith(COMPRESSED)
    with open_file(part.path) as file:
        offset = part.start
        if offset:  # the line that began before belongs to the part before
            file.seek(offset - 1)
            offset = offset - 1 + read_line(file, max_bytes)[2]
        while is_whole or offset < part.end:
            content, is_too_long, size = read_line(file, max_bytes)
            if not size:
                return
            if not offset:
                content = content.removeprefix(codecs.BOM_UTF8)
            yield Line(offset, content, is_too_long)
            offset += size


def read_line(file: BinaryIO, max_bytes: int) -> tuple[bytes, bool, int]:
    """The next line without its end, whether it was too long, and how many bytes it took.

    What goes beyond `max_bytes` is read past without keeping it. Raises Damaged.
    """
    try:
        line = file.readline(max_bytes + 2)
        size = len(line)
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(SKIP_BYTES)
            size += len(rest)
    except BROKEN as error:
        raise Damaged(f"truncated or damaged compressed file ({error})") from None
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror or error})") from None
    content = line.removesuffix(b"\n").removesuffix(b"\r")
    return content[:max_bytes], len(content) > max_bytes or size > max_bytes + 2, size
