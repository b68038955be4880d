"""WARC and WET: web archives as crawlers write them (ISO 28500; Common Crawl).

A document is a `response` or `resource` record that holds HTML or plain text, or a `conversion`
record (WET). Its id is `file@offset` in bytes of the decompressed file, or the record header that
`id` names ("WARC-Record-ID", "WARC-Target-URI"). Other records (warcinfo, request, metadata,
revisit) are no documents. Dropped: responses other than 200, content that is no text, pages without
text. Quarantined: records that are damaged, too long, or in an unknown encoding.

Records are framed here, so that a truncated file and a broken record are told from the end of the
file (fastwarc stops without a word at both) and reading goes on at the next record; fastwarc
decodes what HTTP packed. Files are not cut in byte ranges: a page may itself show how a record
begins.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.message import Message

from fastwarc.warc import WarcRecord

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, drop, quarantine
from data_prep.files import find, open_part, whole_parts
from data_prep.html_text import decoded, with_text
from data_prep.sources import InputFile, Part, Source

MAX_HEADER_BYTES = 1 << 16
SKIP_BYTES = 1 << 20
CORRUPT = "corrupt WARC record"
TOO_LONG = "longer than max_document_bytes"
TEXT_RECORDS = ("response", "resource", "conversion")
HTML_TYPES = ("text/html", "application/xhtml+xml")


class Params(Source):
    """Reads .warc and .wet files, compressed or not."""

    main_content: bool = True  # of HTML: without navigation, headers, footers


@dataclass(frozen=True)
class Record:
    """One record as stored."""

    offset: int  # bytes, in the decompressed file
    head: bytes  # its header lines
    headers: dict[str, str]  # names in lower case
    block: bytes  # the beginning only if it is too long
    problem: str = ""  # why the record cannot be used: the reason of a quarantine

    def get(self, name: str) -> str:
        return self.headers.get(name, "")


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The text of the records of a file."""
    try:
        with open_part(part, params) as file:
            for record in records(file, params.max_document_bytes):
                place = f"{part.id_prefix}@{record.offset}"
                kind = record.get("warc-type")
                if record.problem and (not kind or kind in TEXT_RECORDS):
                    yield quarantine(place, record.problem, record.head + record.block[:500])
                elif kind in TEXT_RECORDS:
                    id = record.get(params.id.lower()) if params.id is not None else ""
                    url = record.get("warc-target-uri")
                    empty = Document(
                        id or place, "", name, params.domain, {"url": url} if url else {}
                    )
                    yield document_of(record, kind, empty, params)
    except Damaged as damage:
        yield quarantine(part.id_prefix, damage.reason, str(damage))


def records(file: io.BufferedReader, max_bytes: int) -> Iterator[Record]:
    """The records of a file; after a broken one it goes on where the next begins."""
    offset = 0
    while line := file.readline(MAX_HEADER_BYTES):
        begin = offset
        offset += len(line)
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            while line and not line.startswith(b"WARC/"):
                line = file.readline(MAX_HEADER_BYTES)
                offset += len(line)
            yield Record(begin, b"", {}, b"", CORRUPT)
            if not line:
                return
            begin = offset - len(line)
        head = [line]
        while (line := file.readline(MAX_HEADER_BYTES)).strip():
            head.append(line)
            offset += len(line)
            if sum(map(len, head)) > MAX_HEADER_BYTES:
                break
        offset += 0 if line.strip() else len(line)
        headers = headers_of(head)
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or not headers.get("warc-type"):
            yield Record(begin, b"".join(head), {}, b"", CORRUPT)
            continue
        size = int(length)
        block = file.read(min(size, max_bytes))
        left = size - len(block)
        while left and (skipped := file.read(min(left, SKIP_BYTES))):
            left -= len(skipped)
        offset += size - left
        if left:
            raise Damaged(f"truncated: the record at byte {begin} lacks {left} of {size} bytes")
        yield Record(begin, b"".join(head), headers, block, TOO_LONG if size > max_bytes else "")


def headers_of(head: list[bytes]) -> dict[str, str]:
    found = {}
    for line in head[1:]:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        found[name.strip().lower()] = value.strip()
    return found


def document_of(record: Record, kind: str, empty: Document, params: Params) -> Document | Reject:
    """The text of one record."""
    content, content_type = record.block, record.get("content-type")
    if content_type.startswith("application/http"):
        packed = WarcRecord.from_bytes(record.head + b"\r\n" + record.block + b"\r\n\r\n")
        try:
            packed.parse_http(auto_decode="all", strict_mode=False)
            if packed.http_headers.status_code != 200:
                return drop(empty, "HTTP status is not 200")
            content = packed.reader.read(params.max_document_bytes + 1)
        except (OSError, ValueError) as error:
            return quarantine(empty.id, "corrupt HTTP response", str(error))
        content_type = packed.http_headers.get("Content-Type") or "text/html"
        if len(content) > params.max_document_bytes:
            return quarantine(empty.id, TOO_LONG, content)
    parsed = Message()
    parsed["Content-Type"] = content_type
    charset = parsed.get_param("charset")
    charset = charset if isinstance(charset, str) else None
    if parsed.get_content_type() in HTML_TYPES:
        return with_text(empty, content, charset, params.main_content)
    if kind != "conversion" and parsed.get_content_type() != "text/plain":
        return drop(empty, "content is not text")
    return with_plain_text(empty, content, charset)


def with_plain_text(empty: Document, content: bytes, charset: str | None) -> Document | Reject:
    try:
        text = content.decode("utf-8") if charset is None else decoded(content, charset)
    except UnicodeDecodeError:
        return quarantine(empty.id, "not valid UTF-8", content)
    return replace(empty, text=text) if text.strip() else drop(empty, "page without text")
