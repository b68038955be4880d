"""Repeated lines: what they are found by, and texts without those that go.

A line is what stands between newlines. Only lines of at least `line_min_characters`, the white
space around them aside, are looked at; they are equal if they are so without it. Of equal lines the
first of all documents that stay is kept, within one document too.

Files, little-endian:

    read/<unit>.lines.bin        rows of LINE, sorted by hash: every line looked at
    read/<unit>.characters.npy   uint32 (n,), characters of each document
    keep/<unit>.lines.npy        uint32 (m, 2), written by the merge: (row of the document, number
                                 of the line) of lines that go, sorted; lines count from 0
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_prep.ranges import save_sorted
from data_prep.work import Work, save_array

LINE = np.dtype(
    [
        ("hash", "<u8"),  # xxh3 of the stripped line's UTF-8
        ("document", "<u4"),  # row within the unit
        ("line", "<u4"),  # number within the document
        ("characters", "<u4"),  # of the whole line, its newline included
    ]
)


class LinePrints:
    """Collects the lines of a unit's documents."""

    def __init__(self, min_characters: int) -> None:
        self.min_characters = min_characters
        self.hashes = bytearray()
        self.numbers, self.characters = array("I"), array("I")
        self.counts, self.sizes = array("I"), array("I")  # a document

    def add(self, text: str) -> None:
        """Take the next document."""
        self.sizes.append(len(text))
        lines, least = text.split("\n"), self.min_characters
        numbers = [number for number, line in enumerate(lines) if len(line) >= least]
        stripped = [lines[number].strip() for number in numbers]
        if min(map(len, stripped), default=least) < least:
            is_long = [len(line) >= least for line in stripped]
            numbers, stripped = list(compress(numbers, is_long)), list(compress(stripped, is_long))
        self.hashes += b"".join(map(xxhash.xxh3_64_digest, map(str.encode, stripped)))
        self.numbers.fromlist(numbers)
        self.characters.extend(map(len, map(lines.__getitem__, numbers)))
        self.counts.append(len(numbers))

    def skip(self, text: str) -> None:
        """Take the next document without its lines."""
        self.sizes.append(len(text))
        self.counts.append(0)

    def save(self, work: Work, name: str) -> None:
        """Write the files of the unit `read/<unit>`."""
        rows = np.empty(len(self.numbers), LINE)
        rows["hash"] = np.frombuffer(self.hashes, ">u8")
        rows["document"] = np.repeat(np.arange(len(self.counts)), self.counts)
        rows["line"] = self.numbers
        rows["characters"] = np.array(self.characters, np.uint32) + 1  # the newline
        save_sorted(work.path(name, ".lines.bin"), rows)
        save_array(work.path(name, ".characters.npy"), np.array(self.sizes, np.uint32))


@dataclass(frozen=True)
class Removed:
    """The lines of a unit's documents that go."""

    rows: NDArray[np.uint32]  # (m, 2) as in keep/<unit>.lines.npy

    @classmethod
    def load(cls, work: Work, unit: str) -> Self:
        """What the merge decided for a unit; nothing goes where lines were not looked at."""
        path = work.path(f"keep/{unit}", ".lines.npy")
        return cls(np.load(path) if path.exists() else np.zeros((0, 2), np.uint32))

    def without(self, documents: NDArray[np.int64], texts: Sequence[str]) -> Sequence[str]:
        """The texts of documents of the unit, given by their rows, without lines that go."""
        starts = np.searchsorted(self.rows[:, 0], documents, "left").tolist()
        ends = np.searchsorted(self.rows[:, 0], documents, "right").tolist()
        return [
            kept_text(text, self.rows[start:end, 1].tolist()) if end > start else text
            for text, start, end in zip(texts, starts, ends, strict=True)
        ]


def kept_text(text: str, drop: Iterable[int]) -> str:
    """The text without the lines of these numbers. Blank lines before and after what is cut out
    become those before it, so that no gap marks the place."""
    gone = set(drop)
    kept: list[str] = []
    is_cut = False  # nothing but blank lines since a line that went
    for number, line in enumerate(text.split("\n")):
        if number in gone:
            is_cut = True
        elif not (is_cut and is_blank(line) and (not kept or is_blank(kept[-1]))):
            kept.append(line)
            is_cut = False
    return "\n".join(kept)


def is_blank(line: str) -> bool:
    return not line or line.isspace()
