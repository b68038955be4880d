"""Unicode clean-up: repair, normal form, control and invisible characters, line ends, length."""

import re
import unicodedata
from dataclasses import replace
from typing import Literal

import ftfy
from pydantic import Field

from data_prep.cleaning import Step
from data_prep.documents import Document, Reject, drop

LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\u0085\u2028\u2029]")
# C0 and C1 controls except tab and newline, annotation marks, noncharacters, the language tag.
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff\U000e0001]"
)
# Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are spelt with them.
INVISIBLE = re.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
TRAILING = re.compile(r"[ \t\u00a0\u3000]+$", re.MULTILINE)
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
        text = ftfy.fix_encoding(text)
    text = LINE_ENDS.sub("\n", text)
    if params.remove_control:
        text = CONTROL.sub("", text)
    if params.remove_invisible:
        text = INVISIBLE.sub("", text)
    if params.form != "none" and not text.isascii():
        text = unicodedata.normalize(params.form, text)
    text = BLANK_LINES.sub("\n\n\n", TRAILING.sub("", text)).strip("\n")
    if len(text.strip()) < max(params.min_characters, 1):
        return drop(document, f"shorter than {max(params.min_characters, 1)} characters")
    return document if text == document.text else replace(document, text=text)
