"""Text in other encodings becomes UTF-8 while it is read.

A byte order mark of UTF-16 or UTF-32 decides; else the `encoding` of the source does. Bytes that
the encoding does not know become bytes that are not valid UTF-8 either, so the line they are in is
quarantined and the others are read. Offsets are those of the UTF-8 text.
"""

import codecs
import io
from typing import Any

from data_prep.compression import Damaged

MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 4
READ_BYTES = 1 << 20


def encoding_of(head: bytes, declared: str) -> str:
    """The encoding of a file that begins with `head`."""
    return next((name for mark, name in MARKS if head.startswith(mark)), declared)


class Recoded(io.RawIOBase):
    """A file in another encoding as UTF-8. Reading raises Damaged where it cannot go on."""

    def __init__(self, raw: io.BufferedReader, encoding: str) -> None:
        self.raw = raw
        self.encoding = encoding
        # Lone surrogates are how Python passes on bytes or units it cannot decode.
        errors = "surrogatepass" if encoding.startswith("utf-") else "surrogateescape"
        self.decoder = codecs.getincrementaldecoder(encoding)(errors)
        self.is_ended = False
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        while not self.ready and not self.is_ended:
            content = self.raw.read1(READ_BYTES)
            self.is_ended = not content
            try:
                text = self.decoder.decode(content, final=self.is_ended)
            except UnicodeError as error:
                raise Damaged(f"not valid {self.encoding}: {error}") from None
            self.ready = memoryview(text.encode("utf-8", "surrogatepass"))
        size = min(len(target), len(self.ready))
        target[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()
