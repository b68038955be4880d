"""Plain .npy files whose bytes are known block by block: written whole, checked when read.

The entry of a file in a manifest is its size in bytes, its dtype, and an xxh3_64 of each 4 MiB of
its bytes, the header included. A block is compared when something in it is first read, and again if
the file was changed since. A fault is a DataError that names the file and the block.
"""

import io
import os
import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from runtime import provenance
from runtime.errors import DataError

BLOCK_BYTES = 1 << 22
AGAIN = "remove the data folder and run `python -m data_prep` again"

Int64 = NDArray[np.int64]
Stamp = tuple[int, int, int]  # of a file: inode, size, time of the last change
Checks = tuple[Stamp, NDArray[np.bool_]]  # of the file, and of each block whether it was checked


def write_array(
    path: Path, parts: Iterator[NDArray[Any]], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Write one .npy file, whole or not at all, from arrays that make up the one of this shape;
    return its entry. The folder is not fsynced."""
    first = next(parts)
    header = header_of(first.dtype, shape)
    hashes = BlockHashes()
    with provenance.atomic(path) as temporary, temporary.open("wb") as file:
        for content in chain([memoryview(header)], map(as_bytes, chain([first], parts))):
            file.write(content)
            hashes.update(content)
    return {"bytes": hashes.num_bytes, "dtype": first.dtype.name, "blocks": hashes.finish()}


def header_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The bytes a .npy file of this array begins with: never parsed, they are known."""
    header = io.BytesIO()
    facts = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


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

    def __init__(
        self, path: Path, entry: dict[str, Any], shape: tuple[int, ...], remedy: str = AGAIN
    ) -> None:
        """Raises DataError if the file is not as the manifest says. `remedy`: what to do about
        damage, for the messages."""
        self.path = path
        self.remedy = remedy
        self.entry = entry
        self.shape = shape
        self.blocks: list[str] = entry["blocks"]
        self.open()

    def open(self) -> None:
        """Map the file, with no block checked yet."""
        self.stamp = self.now()
        check_size(self.path, self.entry["bytes"], self.remedy)
        dtype = np.dtype(self.entry["dtype"])
        header = header_of(dtype, self.shape)
        try:
            with self.path.open("rb") as file:
                found = file.read(len(header))
            mapped = np.memmap(self.path, dtype, "r", len(header), self.shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be mapped ({error}); {self.remedy}") from None
        if found != header:
            raise DataError(
                f"{self.path}: not a readable .npy file of {dtype} {self.shape}: block 0 (its "
                f"first {len(header)} bytes) is damaged; {self.remedy}"
            )
        self.array: NDArray[Any] = np.asarray(mapped)  # numpy is faster without its memmap class
        row_values = int(np.prod(self.shape[1:], dtype=np.int64))
        self.bytes_per_row = self.array.dtype.itemsize * row_values
        self.header_bytes = self.entry["bytes"] - self.array.nbytes
        self.is_checked = np.zeros(len(self.blocks), bool)
        self.num_unchecked = len(self.blocks)

    @property
    def checks(self) -> Checks:
        """Which blocks were checked, for when the same file is mapped again."""
        return self.stamp, self.is_checked

    def recall(self, checks: Checks) -> None:
        """Take over what was checked at an earlier time, unless the file was changed since."""
        stamp, is_checked = checks
        if stamp == self.stamp:
            self.is_checked = is_checked
            self.num_unchecked = int(np.count_nonzero(~is_checked))

    def now(self) -> Stamp:
        """What changes when somebody replaces the file, cuts it or writes to it."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}; {self.remedy}") from None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def rows(self, index: Int64, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The rows at these places, which must be in the file, each from a checked block.

        A file that was changed since it was opened is opened and checked anew: what lies behind the
        end of one that was cut reads as zeros, without an error, up to the end of its last page.
        """
        if self.num_unchecked:
            self.check_rows(index)
        # numpy would copy `out` once more to be able to raise; the places are known to be good.
        found = np.take(self.array, index, axis=0, out=out, mode="clip")
        if self.now() != self.stamp:
            self.open()
            return self.rows(index, out)
        return found

    def check_rows(self, index: Int64) -> None:
        """Check the blocks that hold these rows, those that were not checked before."""
        first = (index * self.bytes_per_row + self.header_bytes) // BLOCK_BYTES
        last = ((index + 1) * self.bytes_per_row + self.header_bytes - 1) // BLOCK_BYTES
        touched = np.zeros(len(self.blocks) + 1, np.int64)
        np.add.at(touched, first, 1)
        np.add.at(touched, last + 1, -1)
        for block in np.flatnonzero((np.cumsum(touched)[:-1] > 0) & ~self.is_checked):
            self.check(int(block))

    def check(self, block: int) -> None:
        """Compare one block with the manifest."""
        try:
            with self.path.open("rb") as file:
                file.seek(block * BLOCK_BYTES)
                found = xxhash.xxh3_64_hexdigest(file.read(BLOCK_BYTES))
        except OSError as error:
            raise DataError(
                f"{self.path}: block {block} cannot be read ({error.strerror or error}); "
                f"{self.remedy}"
            ) from None
        if found != self.blocks[block]:
            raise DataError(
                f"{self.path}: block {block} (bytes {block * BLOCK_BYTES} to "
                f"{(block + 1) * BLOCK_BYTES}) is damaged: its hash is {found}, the manifest says "
                f"{self.blocks[block]}; {self.remedy}"
            )
        self.num_unchecked -= not self.is_checked[block]
        self.is_checked[block] = True

    def faults(self) -> Iterator[str]:
        """The message of each damaged block."""
        for block in range(len(self.blocks)):
            try:
                self.check(block)
            except DataError as error:
                yield str(error)


def check_size(path: Path, expected: int, remedy: str = AGAIN) -> None:
    """Raise DataError if a file is missing or not exactly as long as the manifest says."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {remedy}") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a file; {remedy}")
    found = status.st_size
    if found != expected:
        block = min(found, expected) // BLOCK_BYTES
        raise DataError(
            f"{path}: {found} bytes, the manifest says {expected}: "
            f"{'truncated' if found < expected else 'changed'} from block {block} on; {remedy}"
        )
