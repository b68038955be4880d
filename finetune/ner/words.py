"""Words of a text and their characters: the unit that entities are made of.

`split` cuts text the same way for training and prediction: at white space, before and after
every punctuation mark or symbol, and around every ideograph or kana, because those scripts are
written without spaces. Nothing is lost: the words and the white space between them are the text.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# Scripts without spaces between words, in which every character is a word of its own here.
UNSPACED = (
    (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip


def is_unspaced(character: str) -> bool:
    """True for ideographs and kana."""
    code = ord(character)
    return any(first <= code <= last for first, last in UNSPACED)


@lru_cache(maxsize=1 << 16)
def role(character: str) -> int:
    """0 white space, 1 part of a longer word, 2 a word of its own."""
    if character.isspace():
        return 0
    return 2 if unicodedata.category(character)[0] in "PS" or is_unspaced(character) else 1


def split(text: str) -> list[tuple[int, int]]:
    """Start and end of every word."""
    found: list[tuple[int, int]] = []
    start = -1  # of the word being read
    for i, character in enumerate(text):
        kind = role(character)
        if kind != 1 and start >= 0:
            found.append((start, i))
            start = -1
        if kind == 2:
            found.append((i, i + 1))
        elif kind == 1 and start < 0:
            start = i
    if start >= 0:
        found.append((start, len(text)))
    return found


def join(words: Sequence[str], spaced: bool = False) -> tuple[str, list[tuple[int, int]]]:
    """A text of given words and where each lies in it.

    Words are separated by a space, except between two characters of scripts without spaces, unless
    `spaced` asks for one everywhere.
    """
    parts: list[str] = []
    offsets: list[tuple[int, int]] = []
    length = 0
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        touching = before and word and is_unspaced(before[-1]) and is_unspaced(word[0])
        if i and (spaced or not touching):
            parts.append(" ")
            length += 1
        parts.append(word)
        offsets.append((length, length + len(word)))
        length += len(word)
    return "".join(parts), offsets
