"""Sentence shuffle: the sentences of a document in random order."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from data_prep.augmenting import Augmentation
from data_prep.documents import Document
from data_prep.sentences import rearranged, sentences


class Params(Augmentation):
    """Shuffles sentences; the white space between them, and so the paragraphs, stay in place."""

    step: str = "sentence_shuffle"


def augment(document: Document, params: Params, rng: Random) -> Iterator[Document]:
    """One shuffled copy; nothing if the order comes out the same."""
    units = sentences(document.text)
    order = list(range(len(units)))
    rng.shuffle(order)
    text = rearranged(units, order)
    if text != document.text:
        id = f"{document.id}#sentence_shuffle"
        yield replace(document, id=id, text=text, origin="augmented")
