"""HTML: a document is a file, its text the main text of the page.

Its id is the file's name. The encoding is told by the byte order mark, the page's own `meta`, or
its bytes. Scripts and styles are never text. Quarantined: files that are too long, or whose
encoding cannot be told. Dropped: pages without text. Empty files are no documents.
"""

from collections.abc import Iterator

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, whole_parts
from data_prep.html_text import with_text
from data_prep.input_lines import whole
from data_prep.sources import InputFile, Part, Source


class Params(Source):
    """Reads web pages."""

    main_content: bool = True  # without navigation, headers, footers; False: everything visible


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The page of a file."""
    place = part.id_prefix
    try:
        content, is_too_long = whole(part, params, as_stored=True)
    except Damaged as damage:
        yield quarantine(place, damage.reason, str(damage))
        return
    if is_too_long:
        yield quarantine(place, "longer than max_document_bytes", content)
    elif content.strip():
        charset = None if params.encoding == "utf-8" else params.encoding
        yield with_text(Document(place, "", name, params.domain), content, charset,
                        params.main_content)  # fmt: skip
