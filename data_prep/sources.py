"""Sources: the recipe table every corpus reader extends, and the contract of a reader.

A reader is a module in `data_prep/readers/` with

    class Params(Source)                              its options
    def inputs(params) -> list[InputFile]             what it reads, for fingerprints and plans
    def parts(params) -> Iterator[Part]               the input in pieces that can be read apart
    def read(part, params, name) -> Iterator[Document | Reject]      one piece, in input order

`parts` depends on the input and the recipe only, never on how many workers there are. `read` raises
DataError only for what makes the whole source unusable, or for a moment: a wrong field, a file that
changed since the plan was made, a network that fails. Damage in one place is a quarantined Reject,
and the reader goes on with the next document it can find.
"""

import codecs
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, SerializeAsAny, field_validator

from runtime import plugins
from runtime.config import Positive, Share
from runtime.recipe import RecipeTable

READERS = "data_prep.readers"
MISSING_TEXT = "text field missing"


class Source(RecipeTable):
    """One named origin of text. Its place in the recipe is its priority when texts repeat."""

    reader: str  # file name in data_prep/readers, or the dotted path of a module elsewhere
    domain: str = "general"  # subject area; losses are reported for each
    path: str | tuple[str, ...]  # file, folder or glob, local or any fsspec URL (s3://, https://)
    text: str = "text"  # name of the text field; "a.b" is b inside of a
    id: str | None = None  # name of the id field; None: the place in the input is the id
    encoding: str = "utf-8"  # of text files; a UTF-16 or UTF-32 byte order mark goes before it
    max_documents: Positive | None = None  # the first n only, read by one worker
    max_document_bytes: Positive = 1 << 24  # UTF-8; longer documents and lines are quarantined
    max_compression_ratio: Positive = 200  # unpacked to packed bytes; above: a bomb, quarantined
    max_quarantined_share: Share = 0.01  # more damaged documents (and more than 10) stop the stage
    unit_bytes: Positive = 1 << 26  # of input a worker takes at once

    @field_validator("encoding")
    @classmethod
    def is_known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError("no such encoding of text; for example utf-16, gb18030") from None
        return codecs.lookup(encoding).name


AnySource = Annotated[SerializeAsAny[Source], plugins.table(READERS, "reader")]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # a folder's name


@dataclass(frozen=True)
class InputFile:
    """What a plan remembers of one input: a change of any field makes the stage run again."""

    path: str
    size: int  # bytes as stored; 0 if not known
    version: str  # modification time, ETag or revision


@dataclass(frozen=True)
class Part:
    """A piece of a source that can be read on its own."""

    path: str  # file, or the data set of a hub
    start: int  # bytes, rows groups or shard number: the reader's business
    end: int
    size: int  # bytes of input, for balance and progress; 0 if not known
    id_prefix: str  # documents without an id get this and their place in the file
    version: str = ""  # of the file when the parts were made; "" is not checked
