"""Decompression of .gz, .bz2, .xz and .zst, bounded in memory and in ratio.

What a file is compressed with is told by its name and checked against its first bytes. Several
streams behind each other are one file, zeros behind the last one are padding. A truncated or
damaged file raises `Damaged` at the point where it breaks, after everything before has been read
(zstandard's and bz2's own file objects end there without a word). A file that unpacks to more than
the allowed multiple of its size is refused once 64 MiB have come out of it: text does not do that,
bombs do.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, BinaryIO, cast

import zstandard

ENDINGS = (".gz", ".zst", ".bz2", ".xz")
SIGNATURES = {
    ".gz": b"\x1f\x8b",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\x00",
    ".zst": b"\x28\xb5\x2f\xfd",
}
SIGNATURE_BYTES = 6
SKIPPABLE_ZSTD = b"\x2a\x4d\x18"  # second to fourth byte of a zstd frame that holds no text
PACKED_BYTES = 1 << 18  # read at a time
STEP_BYTES = 1 << 9  # of zstd unpacked at a time; the worst of it becomes 22 MiB
UNPACKED_BYTES = 1 << 20  # most that comes out of the others at a time
MEMORY_BYTES = 1 << 27  # a stream may ask for: `xz -9` needs 65 MiB, zstd's own limit is this
FREE_BYTES = 1 << 26  # unpacked before the ratio counts
BROKEN = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError)


class Damaged(Exception):
    """A file that cannot be read further: what happened, and the reason of the quarantine."""

    def __init__(self, message: str, reason: str = "damaged file") -> None:
        super().__init__(message)
        self.reason = reason


Pieces = Generator[bytes, None, bytes]  # unpacked pieces; returns what lies behind the stream


def unpack_zlib(stream: Any, packed: bytes) -> Pieces:
    while packed and not stream.eof:
        yield stream.decompress(packed, UNPACKED_BYTES)
        packed = stream.unconsumed_tail
    return cast(bytes, stream.unused_data)


def unpack_limited(stream: Any, packed: bytes) -> Pieces:
    """bz2 and xz, which keep what they have not unpacked yet."""
    yield stream.decompress(packed, UNPACKED_BYTES)
    while not stream.eof and not stream.needs_input:
        yield stream.decompress(b"", UNPACKED_BYTES)
    return cast(bytes, stream.unused_data)


def unpack_zstd(stream: Any, packed: bytes) -> Pieces:
    """zstd, whose library has no limit on what comes out: it gets little at a time."""
    view = memoryview(packed)
    held: list[bytes] = []
    size = 0
    left = b""
    for start in range(0, len(packed), STEP_BYTES):
        try:
            held.append(stream.decompress(view[start : start + STEP_BYTES]))
        except zstandard.ZstdError:
            yield b"".join(held)
            raise
        size += len(held[-1])
        if stream.eof:
            left = stream.unused_data + packed[start + STEP_BYTES :]
            break
        if size >= UNPACKED_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
    return left


NEW_STREAM: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(memlimit=MEMORY_BYTES),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
UNPACK: dict[str, Callable[[Any, bytes], Pieces]] = {
    ".gz": unpack_zlib,
    ".bz2": unpack_limited,
    ".xz": unpack_limited,
    ".zst": unpack_zstd,
}


def ending_of(path: str) -> str:
    """The ending of a compressed file's name, or nothing."""
    return next((ending for ending in ENDINGS if path.endswith(ending)), "")


def ending_of_content(head: bytes) -> str:
    """The ending that a file should have by its first bytes, or nothing."""
    for ending, signature in SIGNATURES.items():
        if head.startswith(signature):
            return ending
    return ".zst" if head[1:4] == SKIPPABLE_ZSTD and 0x50 <= head[0] <= 0x5F else ""


class Unpacked(io.RawIOBase):
    """What a compressed file holds. Reading raises Damaged."""

    def __init__(self, raw: BinaryIO, ending: str, max_ratio: int) -> None:
        self.raw = raw
        self.ending = ending
        self.max_ratio = max_ratio
        self.num_packed = 0  # bytes read
        self.num_unpacked = 0
        self.pieces = self.unpack()
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        size = 0
        wanted = 1 if self.num_unpacked else SIGNATURE_BYTES  # at first enough to tell encodings
        while size < min(wanted, len(target)):
            while not self.ready:
                piece = next(self.pieces, None)
                if piece is None:
                    return size
                self.ready = memoryview(piece)
            taken = min(len(target) - size, len(self.ready))
            target[size : size + taken] = self.ready[:taken]
            self.ready = self.ready[taken:]
            size += taken
        return size

    def unpack(self) -> Iterator[bytes]:
        """All streams of the file in pieces."""
        stream = None
        while packed := self.raw.read(PACKED_BYTES):
            self.check_name(packed)
            self.num_packed += len(packed)
            while packed:
                if stream is None:
                    packed = packed.lstrip(b"\x00")
                    if not packed:
                        break
                    stream = NEW_STREAM[self.ending]()
                packed = yield from self.checked(UNPACK[self.ending](stream, packed))
                if stream.eof:
                    stream = None
        self.check_name(b"")
        if stream is not None:
            raise Damaged("truncated: the compressed file ends before its end-of-stream marker")

    def checked(self, pieces: Pieces) -> Pieces:
        """Pass pieces on, count them, name what is wrong with them."""
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return cast(bytes, end.value)
            except BROKEN as error:
                raise Damaged(f"truncated or damaged compressed file ({error})") from None
            self.num_unpacked += len(piece)
            if self.num_unpacked > max(FREE_BYTES, self.max_ratio * self.num_packed):
                raise Damaged(
                    f"{self.num_packed:,} bytes unpack to more than {self.num_unpacked:,}, over "
                    f"max_compression_ratio ({self.max_ratio})",
                    "decompression ratio",
                )
            yield piece

    def check_name(self, head: bytes) -> None:
        if not self.num_packed and ending_of_content(head[:SIGNATURE_BYTES]) != self.ending:
            given = "is empty" if not head else f"begins with {head[:SIGNATURE_BYTES]!r}"
            raise Damaged(
                f"named {self.ending}, but the content {given}, which is not {self.ending}; "
                "rename the file or repair it"
            )

    def close(self) -> None:
        self.raw.close()
        super().close()
