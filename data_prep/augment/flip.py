"""Text flip: the sentences of a document, or its words, in reverse order.

Measured on fine-tuning with pretrained encoders, reversed text hurts: it teaches an order that no
real text has. It is here for comparison and for objectives that want a negative.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Literal

from data_prep.augmenting import Augmentation
from data_prep.documents import Document
from data_prep.sentences import rearranged, sentences
from data_prep.words import words_of

RUN = re.compile(r"(\S+)(\s*)")


class Params(Augmentation):
    """Reverses the order of sentences or words; white space stays in place."""

    step: str = "flip"
    unit: Literal["sentence", "word"] = "sentence"  # what is put in reverse order


def augment(document: Document, params: Params, rng: Random) -> Iterator[Document]:
    """The reversed text; nothing if it reads the same."""
    text = document.text
    units = sentences(text) if params.unit == "sentence" else words(text)
    units = units or [("", "")]
    lead = text[: len(text) - sum(len(word) + len(gap) for word, gap in units)]
    flipped = lead + rearranged(units, list(range(len(units)))[::-1])
    if flipped != text:
        yield replace(document, id=f"{document.id}#flip", text=flipped, origin="augmented")


def words(text: str) -> list[tuple[str, str]]:
    """Words with the white space behind them; none follows a character of an unspaced script."""
    found: list[tuple[str, str]] = []
    for run, gap in RUN.findall(text):
        found += [(word, "") for word in words_of(run)]
        found[-1] = (found[-1][0], gap)
    return found
