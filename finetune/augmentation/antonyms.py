"""Opposites of adjectives, read from WordNet's own files.

Format (wndb(5WN)), beyond what data_prep/wordnet.py says: after its words a line of data.adj holds
`p_cnt` pointers of four fields, `symbol offset pos source/target`. `!` leads to an antonym, where
source and target are two hexadecimal digits each, the numbers (from 1) of the two words in their
lines. An adjective that has none may be similar (`&`) to one that has: its opposite is then that
one's ("awful" is like "bad", the opposite of which is "good"). Only the most frequent sense of a
word is looked at.
"""

import re
from functools import lru_cache
from pathlib import Path

from runtime.errors import DataError

FILES = ("index.adj", "data.adj")


def files(folder: Path) -> list[Path]:
    return [folder / name for name in FILES]


@lru_cache(maxsize=2)
def opened(folder: Path) -> "Antonyms":
    return Antonyms(folder)


class Antonyms:
    """The adjectives of WordNet and how they are opposed."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError if WordNet is not there."""
        try:
            index, self.data = (path.read_bytes() for path in files(folder))
        except OSError as error:
            raise DataError(
                f"WordNet cannot be read from {folder} ({error.strerror}); install Debian's "
                "wordnet-base, or set `wordnet` to its folder or `lexicon` to a file of your own"
            ) from None
        self.first: dict[str, int] = {}  # offset of the first sense of each adjective
        for line in index.decode("utf-8").splitlines():
            lemma, _, rest = line.partition(" ")
            if lemma.isalpha():
                fields = rest.split()
                self.first[lemma] = int(fields[-int(fields[1])])

    def of(self, word: str) -> list[str]:
        """The opposites of a lower-case adjective, nearest first; none of any other word."""
        if word not in self.first:
            return []
        words, pointers = self.read(self.first[word])
        if word not in words:
            return []
        number = words.index(word) + 1
        found = self.opposites(pointers, number)
        if not found:
            for symbol, offset, _ in pointers:
                if symbol == "&":
                    found += self.opposites(self.read(offset)[1], 1)
        return list(dict.fromkeys(found))

    def opposites(self, pointers: list[tuple[str, int, str]], number: int) -> list[str]:
        """What the antonym pointers of a word lead to."""
        return [
            self.read(offset)[0][int(ends[2:], 16) - 1]
            for symbol, offset, ends in pointers
            if symbol == "!" and int(ends[:2], 16) == number
        ]

    def read(self, offset: int) -> tuple[list[str], list[tuple[str, int, str]]]:
        """Words of a line, and symbol, offset and source/target of its pointers to adjectives."""
        fields = self.data[offset : self.data.find(b"\n", offset)].decode("utf-8").split(" ")
        after = 4 + 2 * int(fields[3], 16)
        # An adjective can carry its position: galore(ip).
        words = [re.sub(r"\(.*", "", word).replace("_", " ") for word in fields[4:after:2]]
        count = int(fields[after])
        flat = fields[after + 1 : after + 1 + 4 * count]
        pointers = zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        return words, [(symbol, int(at), ends) for symbol, at, pos, ends in pointers if pos == "a"]
