"""Unicode clean-up: repair, normal form, control and invisible characters, line ends, length.

Most documents need none of it, so each part is first asked for by a scan that costs far less than
the change: an ASCII document that is clean is read about three times and never copied.
"""

import re
import unicodedata
from dataclasses import replace
from typing import Literal

from pydantic import Field

from data_prep.cleaning import Step
from data_prep.documents import Document, Reject, drop

LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\u0085\u2028\u2029]")
# C0 and C1 controls except tab and newline, annotation marks, noncharacters; the language tag.
CONTROL_CLASS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff"
LANGUAGE_TAG = "\U000e0001"
# Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are spelt with them.
INVISIBLE_CLASS = r"\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
CONTROL = re.compile(f"[{CONTROL_CLASS}{LANGUAGE_TAG}]")
INVISIBLE = re.compile(f"[{INVISIBLE_CLASS}]")
# Without the language tag: `re` is twice as fast on a class that lies in the basic plane.
ANY_MARK = re.compile(rf"[{CONTROL_CLASS}{INVISIBLE_CLASS}\u2028\u2029]")
PLAIN_ASCII = bytes(code for code in range(128) if not CONTROL.match(chr(code)))
SPACES = " \t\u00a0\u3000"
BLANK_LINES = re.compile(r"\n{4,}")


class Params(Step):
    """Changes the spelling of text, never its words."""

    step: str = "unicode"
    repair: bool = False  # undo wrong decodings ("cafÃ©") with ftfy; about ten times slower
    form: Literal["NFC", "NFKC", "none"] = "NFC"  # normal form of non-ASCII text
    remove_control: bool = True  # all but tab and newline; also noncharacters
    remove_invisible: bool = True  # zero-width spaces, direction marks, soft hyphens
    min_characters: int = Field(default=1, ge=0)  # left after all of it; shorter ones are dropped


def clean(document: Document, params: Params) -> Document | Reject:
    """The document with clean text, or a reject if too little is left."""
    text = document.text
    if params.repair:
        text = repaired(text)
    if has_marks(text):
        text = LINE_ENDS.sub("\n", text)
        if params.remove_control:
            text = CONTROL.sub("", text)
        if params.remove_invisible:
            text = INVISIBLE.sub("", text)
    if params.form != "none":  # returns the same text at once where it is ASCII or normal already
        text = unicodedata.normalize(params.form, text)
    text = with_tidy_lines(text)
    least = max(params.min_characters, 1)
    if len(text) < least or len(text.strip()) < least:
        return drop(document, f"shorter than {least} characters")
    return document if text == document.text else replace(document, text=text)


def repaired(text: str) -> str:
    """The text with wrong decodings undone, as far as ftfy sees them."""
    import ftfy  # 60 ms and 10 MB in every worker, for an option that few recipes switch on

    return str(ftfy.fix_encoding(text))


def has_marks(text: str) -> bool:
    """Whether there is a character to replace or remove."""
    if text.isascii():
        return bool(text.encode("ascii").translate(None, PLAIN_ASCII))
    return ANY_MARK.search(text) is not None or LANGUAGE_TAG in text


def with_tidy_lines(text: str) -> str:
    """The text without white space at line ends, with at most two blank lines in a row, and none
    around it."""
    # One character is found many times faster than two: most texts lack all spaces but the first.
    if text[-1:] in SPACES or any(space in text and space + "\n" in text for space in SPACES):
        text = "\n".join([line.rstrip(SPACES) for line in text.split("\n")])
    if "\n\n\n\n" in text:
        text = BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n")
