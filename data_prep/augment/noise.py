"""Noise: typing and scanning errors in single characters; white space and word count stay."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from data_prep.augmenting import Augmentation
from data_prep.documents import Document
from runtime.config import Share

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SCANNED = {
    "l": "1", "1": "l", "I": "l", "O": "0", "0": "O", "o": "c", "c": "e", "e": "c", "S": "5",
    "5": "S", "B": "8", "8": "B", "Z": "2", "2": "Z", "h": "b", "b": "h", "n": "u", "u": "n",
    "己": "已", "已": "己", "未": "末", "末": "未", "日": "曰", "人": "入", "入": "人",
}  # fmt: skip
Kind = Literal["swap", "delete", "keyboard", "scan"]


class Params(Augmentation):
    """Damages characters as keyboards and scanners do."""

    step: str = "noise"
    rate: Share = 0.02  # share of the characters that are not white space
    # drawn for each damaged character: swapped with the next one, left out, the key beside it, a
    # look-alike; keys and look-alikes change only what has one
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("swap", "delete", "keyboard", "scan")


def augment(document: Document, params: Params, rng: Random) -> Iterator[Document]:
    """One damaged copy; nothing if chance left the text as it was."""
    text = damaged(document.text, params, rng)
    if text != document.text:
        yield replace(document, id=f"{document.id}#noise", text=text, origin="augmented")


def damaged(text: str, params: Params, rng: Random) -> str:
    characters = list(text)
    for i, character in enumerate(text):
        if character.isspace() or rng.random() >= params.rate:
            continue
        kind = rng.choice(params.kinds)
        is_followed = i + 1 < len(text) and not text[i + 1].isspace()
        if kind == "keyboard":
            characters[i] = key_beside(characters[i], rng)
        elif kind == "scan":
            characters[i] = SCANNED.get(characters[i], characters[i])
        elif is_followed and kind == "swap":
            characters[i], characters[i + 1] = characters[i + 1], characters[i]
        elif is_followed and kind == "delete":
            # The last character of a word stays: a word that vanished would join its gaps.
            characters[i] = ""
    return "".join(characters)


def key_beside(character: str, rng: Random) -> str:
    """A key left or right of a letter on a QWERTY keyboard; other characters stay."""
    for row in ROWS:
        place = row.find(character.lower())
        if character and place >= 0:
            beside = rng.choice(row[max(place - 1, 0) : place] + row[place + 1 : place + 2])
            return beside.upper() if character.isupper() else beside
    return character
