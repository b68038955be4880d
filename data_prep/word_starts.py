"""Where words begin in a row of token ids, read from what the tokens of tokenizer.json spell.

A token begins a word if it carries the tokenizer's mark for it (no "##" in WordPiece, a "\u2581" of
SentencePiece, a space in byte-level BPE), or if its first character is punctuation, a symbol, white
space, or of a script written without spaces (Chinese, Japanese, Thai...), where each piece is a
word. After a token that ends in such a character, or in a suffix that ends words ("</w>"), another
word begins whatever the next token is: so punctuation is a word of its own. Characters spelt in
bytes go by their first byte.
"""

import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from data_prep.sentencepiece_model import SPACE

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
# First and last code points of scripts that put no spaces between words.
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x4DBF),  # CJK extensions
    (0x4E00, 0xA4CF),  # CJK, Yi
    (0xF900, 0xFAFF),  # CJK compatibility
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x20000, 0x3FFFF),  # CJK extensions
)
FIRST_UNSPACED = [first for first, _ in UNSPACED]


@dataclass(frozen=True)
class WordBounds:
    """Of each token id."""

    begins: NDArray[np.bool_]  # (V,) the token begins a word
    ends: NDArray[np.bool_]  # (V,) the next token begins a word


def word_bounds(description: dict[str, Any], vocab_size: int) -> WordBounds:
    """The bounds of all tokens; `description` is what tokenizer.json says."""
    bounds = WordBounds(np.zeros(vocab_size, bool), np.zeros(vocab_size, bool))
    judge = judge_of(description)
    for token, number in pieces(description):
        bounds.begins[number], bounds.ends[number] = judge(token)
    for added in description["added_tokens"]:
        bounds.begins[added["id"]] = bounds.ends[added["id"]] = True
    return bounds


def judge_of(description: dict[str, Any]) -> Callable[[str], tuple[bool, bool]]:
    """What says of a token whether it begins a word and whether it ends one."""
    model = description["model"]
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    if is_byte_level(description):
        return of_bytes
    if prefix or model.get("type") == "WordLevel":
        return lambda token: of_wordpiece(token, prefix)
    if suffix:
        return lambda token: of_suffixed(token, suffix)
    return of_sentencepiece


def pieces(description: dict[str, Any]) -> Iterable[tuple[str, int]]:
    """The tokens of the model with their ids; added tokens are not among them."""
    vocabulary = description["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary.items()
    return ((entry[0], number) for number, entry in enumerate(vocabulary))


def is_byte_level(description: dict[str, Any]) -> bool:
    """True if a character of a token stands for a byte of the text."""
    parts = [description.get("pre_tokenizer"), description.get("decoder")]
    return '"ByteLevel"' in json.dumps(parts)


def of_wordpiece(token: str, prefix: str) -> tuple[bool, bool]:
    if not prefix or not token.startswith(prefix):
        return True, is_apart(token[-1:])
    text = token.removeprefix(prefix)
    return is_apart(text[:1]), is_apart(text[-1:])


def of_suffixed(token: str, suffix: str) -> tuple[bool, bool]:
    text = token.removesuffix(suffix)
    return is_apart(text[:1]), token.endswith(suffix) or is_apart(text[-1:])


def of_sentencepiece(token: str) -> tuple[bool, bool]:
    in_bytes = BYTE_TOKEN.fullmatch(token)
    if in_bytes:
        return of_spelling(bytes([int(in_bytes[1], 16)]))
    text = token.lstrip(SPACE)
    if text == token:
        return is_apart(text[:1]), is_apart(text[-1:])
    return True, is_apart(text[-1:])


def of_bytes(token: str) -> tuple[bool, bool]:
    return of_spelling(bytes(BYTE_OF[character] for character in token if character in BYTE_OF))


def of_spelling(spelling: bytes) -> tuple[bool, bool]:
    """Of a token that spells these bytes, which may be parts of characters."""
    if not spelling or 0x80 <= spelling[0] < 0xC0:
        begins = False
    else:
        begins = is_apart(first_character(spelling))
    last = spelling.decode("utf-8", errors="replace")[-1:]
    is_word_space = spelling.isspace() and spelling[-1:] == b" "  # in front of the word to come
    return begins, last != "\ufffd" and is_apart(last) and not is_word_space


def first_character(spelling: bytes) -> str:
    """The first character; the first of those it can become if its last bytes are missing."""
    lead = spelling[0]
    size = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
    first = spelling[:size]
    if first == b"\xf0":
        return "\U0001f300"  # what four bytes spell most often: pictures
    lowest = {b"\xe0": b"\xa0"}.get(first, b"\x80")  # two bytes spell what is below
    whole = (first + lowest + b"\x80\x80")[:size] if len(first) == 1 else first.ljust(size, b"\x80")
    return whole.decode("utf-8", errors="replace")[0]


def is_apart(character: str) -> bool:
    """True for punctuation, symbols, white space and characters of unspaced scripts."""
    if not character:
        return False
    category = unicodedata.category(character)
    if category[0] in "PSZ" or category in ("Cc", "Co"):
        return True
    if category[0] == "M":
        return False
    place = bisect_right(FIRST_UNSPACED, ord(character)) - 1
    return place >= 0 and ord(character) <= UNSPACED[place][1]


def byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]
    assert set(characters) == set(pre_tokenizers.ByteLevel.alphabet())
    return dict(zip(characters, [*printable, *others], strict=True))


BYTE_OF = byte_alphabet()
