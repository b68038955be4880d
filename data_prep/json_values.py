"""The values of a large JSON file one at a time, without parsing what is around them.

A value is cut out by its brackets and quotes alone and parsed by whoever asked for it, so memory
holds one value and a block of 1 MiB. The list to take apart is the top of the file or at the end of
a path of keys; a file that holds objects one after another is read object by object. What follows
the list at the end of a path is not looked at.
"""

import io
import re
from collections.abc import Iterator

from data_prep.compression import Damaged
from data_prep.input_lines import Line

BLOCK_BYTES = 1 << 20
BLANK = re.compile(rb"[ \t\r\n]*")
STRUCTURE = re.compile(rb'["\[\]{}]')
QUOTE = re.compile(rb'["\\]')
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SCALAR_END = re.compile(rb"[\s,\]}]")
CORRUPT = "corrupt JSON"


class Values:
    """Reads forward through one file. Raises Damaged where it cannot go on."""

    def __init__(self, file: io.BufferedReader, max_bytes: int) -> None:
        self.file = file
        self.max_bytes = max_bytes
        self.buffer = b""
        self.place = 0  # in the buffer
        self.offset = 0  # of the buffer, in the file

    def fill(self) -> bool:
        """Read on, dropping what lies before the place. False at the end of the file."""
        block = self.file.read1(BLOCK_BYTES)
        self.offset += self.place
        self.buffer = self.buffer[self.place :] + block
        self.place = 0
        return bool(block)

    def peek(self) -> bytes:
        """The next byte that is not white space; nothing at the end of the file."""
        while True:
            found = BLANK.match(self.buffer, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.buffer):
                return self.buffer[self.place : self.place + 1]
            if not self.fill():
                return b""

    def take(self, expected: bytes) -> bytes:
        """The next byte, which must be one of `expected`."""
        byte = self.peek()
        if not byte or byte not in expected:
            found = f"found {byte!r}" if byte else "the file ends"
            at = self.offset + self.place
            raise Damaged(f"expected one of {expected.decode()!r} at byte {at}: {found}", CORRUPT)
        self.place += 1
        return byte

    def value(self) -> Line:
        """The next value; of one that is too long the beginning only."""
        first = self.peek()
        begin = self.offset + self.place
        kept: list[bytes] = []
        size = 0
        for piece in self.pieces(first):
            if size <= self.max_bytes:
                kept.append(piece)
            size += len(piece)
        content = b"".join(kept)
        return begin, content[: self.max_bytes], size > self.max_bytes

    def pieces(self, first: bytes) -> Iterator[bytes]:
        """The bytes of the value that begins here, a buffer at a time."""
        if first not in (b"{", b"[", b'"'):
            yield from self.until(SCALAR_END)
            return
        depth = 0
        while True:
            if self.buffer[self.place : self.place + 1] == b'"':
                yield from self.string()
            else:
                depth += 1 if self.buffer[self.place] in b"{[" else -1
                yield self.advance(1)
            if not depth:
                return
            yield from self.until(STRUCTURE)
            if self.place == len(self.buffer):
                raise Damaged("truncated: the file ends inside a value")

    def string(self) -> Iterator[bytes]:
        if whole := STRING.match(self.buffer, self.place):  # all of it has been read
            yield self.advance(whole.end() - self.place)
            return
        yield self.advance(1)
        while True:
            yield from self.until(QUOTE)
            if self.place == len(self.buffer):
                raise Damaged("truncated: the file ends inside a string")
            if self.buffer[self.place : self.place + 1] == b'"':
                yield self.advance(1)
                return
            if self.place + 1 == len(self.buffer):
                self.fill()
            yield self.advance(2)  # a backslash and what it escapes

    def until(self, pattern: re.Pattern[bytes]) -> Iterator[bytes]:
        """Everything before the next match, or before the end of the file."""
        while True:
            found = pattern.search(self.buffer, self.place)
            if found:
                yield self.advance(found.start() - self.place)
                return
            yield self.advance(len(self.buffer) - self.place)
            if not self.fill():
                return

    def advance(self, size: int) -> bytes:
        piece = self.buffer[self.place : self.place + size]
        self.place += len(piece)
        return piece


def values(file: io.BufferedReader, max_bytes: int, path: str | None) -> Iterator[Line]:
    """The objects of the list at `path`, or of the file. Raises Damaged."""
    found = Values(file, max_bytes)
    for key in path.split(".") if path else ():
        enter(found, key)
    if path and found.peek() != b"[":
        raise Damaged(f"what is at {path!r} is no list", CORRUPT)
    if found.peek() == b"[":
        found.take(b"[")
        if found.peek() == b"]":
            return
        while True:
            yield found.value()
            if found.take(b",]") == b"]":
                break
        if path:
            return
    while found.peek():
        yield found.value()


def enter(found: Values, key: str) -> None:
    """Go to the value of a key of the object that comes next."""
    known = []
    found.take(b"{")
    if found.peek() != b"}":
        while True:
            if found.peek() != b'"':
                found.take(b'"')
            name = found.value()[1].decode("utf-8", "replace")[1:-1]
            known.append(name)
            found.take(b":")
            if name == key:
                return
            found.value()
            if found.take(b",}") == b"}":
                break
    raise Damaged(f"no key {key!r}; there are: {', '.join(known[:40])}", "key of the list missing")
