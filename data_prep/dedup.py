"""Duplicates across all sources: which count as such, and which documents are for validation.

    prints.py    of each unit, what copies are found by: hashes of texts, of lines, signatures
    merge.py     which documents and lines go, from the prints of all units, in this order:
                 equal texts, near copies among what is left, repeated lines among what is left

The first copy stays: by the order of the sources in the recipe, then of units, then of documents.
What is decided depends on the documents and their order only: not on workers, and not on where
units begin.

The validation part is drawn by the hash of the text, so that equal texts are never on both sides;
near copies are on one side only where `near` removes them.
"""

from typing import Annotated, Literal, Self

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep import minhash
from runtime.config import Positive
from runtime.recipe import RecipeTable


class Dedup(RecipeTable):
    """Which documents and lines count as copies. The first copy stays: sources in recipe order."""

    exact: bool = True  # remove repeated texts within and across sources
    # text: equal byte for byte; words: white space aside; words_any_case: case aside too
    compare: Literal["text", "words", "words_any_case"] = "words"
    lines: bool = False  # remove repeated lines, the white space around them aside
    line_min_characters: Positive = 30  # shorter lines may repeat: brackets, headings, verse
    lines_except: tuple[str, ...] = ()  # sources whose lines are left alone: code
    min_left_characters: int = Field(default=100, ge=0)  # lines went and less is left: all goes
    near: bool = False  # remove texts that share most of their word n-grams with another
    near_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8  # Jaccard similarity from which
    near_ngram: Annotated[int, Field(ge=1, le=32)] = 5  # words; a shorter text is one n-gram
    near_bins: Literal[64, 128, 256, 512] = 256  # of a signature: more estimate more exactly
    near_bands: Positive | None = None  # compared for candidates; None: as many as find 99 %
    near_rows: Positive | None = None  # bins of a band; None: as many as the signature has room for

    @model_validator(mode="after")
    def bands_fit(self) -> Self:
        if (self.near_bands is None) != (self.near_rows is None):
            raise ValueError("near_bands and near_rows are given together or not at all")
        bands, rows = self.bands
        if bands * rows > self.near_bins:
            raise ValueError(
                f"near_bands x near_rows ({bands} x {rows}) must be at most near_bins "
                f"({self.near_bins})"
            )
        return self

    @property
    def bands(self) -> tuple[int, int]:
        """Number of bands, and bins of each."""
        if self.near_bands is not None and self.near_rows is not None:
            return self.near_bands, self.near_rows
        return minhash.bands_for(self.near_threshold, self.near_bins)


def text_hash(text: str, table: Dedup) -> tuple[int, int]:
    """The 128-bit hash of a text as two numbers of 64 bits.

    What `prints.Prints` does for many texts at a time, and much faster.
    """
    if table.compare != "text":
        text = " ".join(text.split())
    if table.compare == "words_any_case":
        text = text.casefold()
    value = xxhash.xxh3_128_intdigest(text.encode("utf-8"))
    return value >> 64, value & 0xFFFF_FFFF_FFFF_FFFF


def is_valid(hashes: NDArray[np.uint64], valid_share: float) -> NDArray[np.bool_]:
    """Which documents are for validation."""
    return np.asarray(hashes[:, 1] < np.uint64(int(valid_share * 2**64)))
