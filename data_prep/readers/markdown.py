"""Markdown: a document is a file, its text what a reader of the rendered page would read.

Its id is the file's name. Markup is taken off by the CommonMark parser markdown-it-py (with
tables): the words of links and images stay, HTML and front matter go, code stays unless asked
otherwise.
Quarantined: files that are too long or not UTF-8 (see `encoding`). Empty files are no documents.
"""

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from data_prep.compression import Damaged
from data_prep.documents import Document, Reject, quarantine
from data_prep.files import find, whole_parts
from data_prep.input_lines import whole
from data_prep.sources import InputFile, Part, Source

FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n.*?\n\1[ \t]*(\n|\Z)", re.DOTALL)
PARSER = MarkdownIt("commonmark").enable("table")
BREAKS = {"softbreak": "\n", "hardbreak": "\n"}
CELL_ENDS = ("th_close", "td_close")
CLOSE = ("bullet_list_close", "ordered_list_close", "table_close")
SILENT = ("list_item_close", "thead_close", "tbody_close")


class Params(Source):
    """Reads Markdown files."""

    code: bool = True  # keep fenced and indented code blocks


def inputs(params: Params) -> list[InputFile]:
    return find(params)


def parts(params: Params) -> Iterator[Part]:
    return whole_parts(params)


def read(part: Part, params: Params, name: str) -> Iterator[Document | Reject]:
    """The text of a file."""
    place = part.id_prefix
    try:
        content, is_too_long = whole(part, params)
    except Damaged as damage:
        yield quarantine(place, damage.reason, str(damage))
        return
    if is_too_long:
        yield quarantine(place, "longer than max_document_bytes", content)
        return
    try:
        markdown = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        yield quarantine(place, "not valid UTF-8", content)
        return
    if "\x00" in markdown:  # the parser would replace it
        yield quarantine(place, "contains NUL", markdown.replace("\x00", "\\x00"))
    elif markdown.strip():
        yield Document(place, plain(markdown, params.code), name, params.domain)


def plain(markdown: str, keep_code: bool) -> str:
    """The text of Markdown: blocks apart by an empty line, list items and table rows by a line."""
    tokens = PARSER.parse(FRONT_MATTER.sub("", markdown, count=1))
    found: list[str] = []
    for token in tokens:
        if token.type == "inline":
            found.append(inline(token.children or []))
        elif token.type in ("fence", "code_block"):
            if keep_code:
                found += [token.content.rstrip("\n"), "\n\n"]
        elif token.type in CELL_ENDS:
            found.append("\t")
        elif token.type == "tr_close":
            found[-1] = "\n"
        elif token.type in CLOSE or (token.type == "paragraph_close" and token.hidden):
            found.append("\n")
        elif token.type.endswith("_close") and token.type not in SILENT:
            found.append("\n\n")
    return re.sub(r"\n{3,}", "\n\n", "".join(found)).strip("\n")


def inline(tokens: Sequence[Token]) -> str:
    found = []
    for token in tokens:
        if token.type in ("text", "code_inline"):
            found.append(token.content)
        elif token.type == "image":
            found.append(inline(token.children or []))
        else:
            found.append(BREAKS.get(token.type, ""))
    return "".join(found)
