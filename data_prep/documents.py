"""A document, and what takes its place when it cannot be used.

Readers yield `Document | Reject`; cleaning steps return one of the two. Nothing vanishes: a reject
carries its reason and a sample of the text, and both are counted in the manifest.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from data_prep.words import words_of

SAMPLE_CHARACTERS = 200

# quarantined: the input is damaged. dropped: readable, but a cleaning rule turned it away.
Kind = Literal["quarantined", "dropped"]


Origin = Literal["read", "augmented"]


@dataclass(frozen=True, init=False)
class Document:
    """One text with where it came from."""

    id: str
    text: str
    source: str
    domain: str
    metadata: dict[str, str] = field(default_factory=dict)
    origin: Origin = "read"

    def __init__(
        self,
        id: str,
        text: str,
        source: str,
        domain: str,
        metadata: dict[str, str] | None = None,
        origin: Origin = "read",
    ) -> None:
        fields = self.__dict__  # the constructor of a frozen dataclass takes 2.4 times as long
        fields["id"] = id
        fields["text"] = text
        fields["source"] = source
        fields["domain"] = domain
        fields["metadata"] = {} if metadata is None else metadata
        fields["origin"] = origin

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8. Raises UnicodeEncodeError for lone surrogates."""
        fields = self.__dict__  # cached_property takes a lock each time
        if "_size" not in fields:
            fields["_size"] = utf8_size(self.text)
        return int(fields["_size"])

    @cached_property
    def words(self) -> list[str]:
        """The words of the text, found once for all rules, shingles and n-grams."""
        return words_of(self.text)


@dataclass(frozen=True)
class Reject:
    """A document that is not used, why, and how it began."""

    id: str
    reason: str  # short and from a small set: it is a key of the counts
    sample: str = ""  # the beginning of the text, or of what could be read of it
    kind: Kind = "dropped"


def quarantine(id: str, reason: str, sample: str | bytes = "") -> Reject:
    """A reject for damaged input."""
    if isinstance(sample, bytes):
        sample = sample[: 4 * SAMPLE_CHARACTERS].decode("utf-8", errors="backslashreplace")
    return Reject(id, reason, sample[:SAMPLE_CHARACTERS], "quarantined")


def drop(document: Document, reason: str) -> Reject:
    """A reject for a document that a cleaning rule turned away."""
    return Reject(document.id, reason, document.text[:SAMPLE_CHARACTERS])


def check(document: Document, max_bytes: int) -> Document | Reject:
    """Quarantine what no later step could store: NUL characters, lone surrogates, excess size."""
    if "\x00" in document.text:
        return quarantine(document.id, "contains NUL", document.text.replace("\x00", "\\x00"))
    if len(document.text) > max_bytes:
        return quarantine(document.id, "longer than max_document_bytes", document.text)
    try:
        size = document.size
        if not document.id.isascii():
            utf8_size(document.id)
    except UnicodeEncodeError:
        sample = document.text[:SAMPLE_CHARACTERS].encode("utf-8", "backslashreplace")
        id = document.id.encode("utf-8", "backslashreplace").decode()
        return quarantine(id, "not valid Unicode", sample)
    if size > max_bytes:
        return quarantine(document.id, "longer than max_document_bytes", document.text)
    return document


def utf8_size(text: str) -> int:
    """Bytes of a text in UTF-8. Raises UnicodeEncodeError for lone surrogates."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))
