"""The text of a part: its lines, or the whole of it, bounded in memory whatever the file holds.

Bytes are read in blocks of 256 KiB (larger ones leave the cache and are slower) and cut at line
feeds in bulk; of a line that is too long only the beginning is kept while the rest is read past.
Offsets count bytes of the decompressed file (of its UTF-8 form if it is in another encoding) and do
not depend on how it was cut in parts.
"""

import codecs
import io
from collections.abc import Iterator
from itertools import islice

from data_prep.compression import SIGNATURE_BYTES, Damaged, ending_of, ending_of_content
from data_prep.encodings import Recoded, encoding_of
from data_prep.files import open_part
from data_prep.sources import Part, Source

BLOCK_BYTES = 1 << 18

# A plain tuple, because there are a million a second: offset in bytes, content without the line's
# end (the beginning only if it is too long), whether it is too long.
Line = tuple[int, bytes, bool]


def lines(part: Part, params: Source) -> Iterator[Line]:
    """The lines that begin inside a part. Raises Damaged where the file breaks."""
    with open_part(part, params) as file:
        if part.start:  # the line that began before belongs to the part before
            file.seek(part.start - 1)
            found = cut(file, part.start - 1, params.max_document_bytes, part.end)
            next(found, None)
            yield from found
            return
        text = as_utf8(file, part, params)
        end = part.end if text is file and not ending_of(part.path) else None
        found = cut(text, 0, params.max_document_bytes, end)
        for offset, content, is_too_long in islice(found, 1):
            yield offset, content.removeprefix(codecs.BOM_UTF8), is_too_long
        yield from found


def whole(part: Part, params: Source, *, as_stored: bool = False) -> tuple[bytes, bool]:
    """All of a part, and whether it is too long (then the beginning only). Raises Damaged.

    `as_stored` leaves the encoding as it is.
    """
    with open_part(part, params) as file:
        text = file if as_stored else as_utf8(file, part, params)
        found = text.read(params.max_document_bytes + 1)
    if not as_stored:
        found = found.removeprefix(codecs.BOM_UTF8)
    return found[: params.max_document_bytes], len(found) > params.max_document_bytes


def as_utf8(file: io.BufferedReader, part: Part, params: Source) -> io.BufferedReader:
    """The file as UTF-8, told by its first bytes. Raises Damaged if it is compressed."""
    head = file.peek(SIGNATURE_BYTES)[:SIGNATURE_BYTES]
    if ending := ending_of_content(head):
        raise Damaged(f"the content is compressed: name the file with {ending} at its end")
    encoding = encoding_of(head, params.encoding)
    if encoding == "utf-8":
        return file
    return io.BufferedReader(Recoded(file, encoding), BLOCK_BYTES)


def cut(file: io.BufferedReader, offset: int, max_bytes: int, end: int | None) -> Iterator[Line]:
    """Lines from `offset`, where the file stands, on, as long as they begin before `end`."""
    held: list[bytes] = []  # beginning of a line whose end has not been read
    size = 0  # of that line so far, what is not kept of it included
    while block := file.read1(BLOCK_BYTES):
        last = block.rfind(b"\n")
        if last < 0:
            if size <= max_bytes + 1:  # one more may be a carriage return
                held.append(block)
            size += len(block)
            if end is not None and size > max_bytes + 1 and offset + size >= end:
                break  # where a line that is too long ends is the next part's business
            continue
        if held:
            first = block.index(b"\n")
            if end is not None and offset >= end:
                return
            held.append(block[:first])
            yield line(offset, b"".join(held), size + first, max_bytes)
            offset += size + first + 1
            block, last = block[first + 1 :], last - first - 1
        if last >= 0:
            has_returns = b"\r" in block
            for found in block[:last].split(b"\n"):
                if end is not None and offset >= end:
                    return
                length = len(found)
                if has_returns or length > max_bytes:
                    yield line(offset, found, length, max_bytes)
                else:
                    yield offset, found, False
                offset += length + 1
        held = [block[last + 1 :]]
        size = len(held[0])
        held = held if size else []
    if held and (end is None or offset < end):
        yield line(offset, b"".join(held), size, max_bytes)


def line(offset: int, content: bytes, size: int, max_bytes: int) -> Line:
    """A line of `size` bytes that begins with `content`."""
    if size == len(content) and content.endswith(b"\r"):
        content, size = content[:-1], size - 1
    return offset, content[:max_bytes], size > max_bytes
