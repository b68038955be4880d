"""Sources: the recipe table every corpus reader extends, and the contract of a reader.

A reader is a module in `data_prep/readers/` with

    class Params(Source)                              its options
    def inputs(params) -> list[InputFile]             what it reads, for fingerprints and plans
    def parts(params) -> Iterator[Part]               the input in pieces that can be read apart
    def read(part, params, name) -> Iterator[Document | Reject]      one piece, in input order

`parts` depends on the input and the recipe only, never on how many workers there are. `read` raises
DataError only for what makes the whole source unusable; damage in one place is a quarantined Reject
and the reader goes on with the next document it can find.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, SerializeAsAny

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
    text: str = "text"  # name of the text field
    id: str | None = None  # name of the id field; None: the place in the input is the id
    max_documents: Positive | None = None  # the first n only, read by one worker
    max_document_bytes: Positive = 1 << 24  # UTF-8; longer documents and lines are quarantined
    max_quarantined_share: Share = 0.01  # more damaged documents (and more than 10) stop the stage
    unit_bytes: Positive = 1 << 26  # of input a worker takes at once


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
