"""WordNet 3.0 read from its own files: which words share a word's most frequent meaning.

Format (wndb(5WN)): a line of index.POS is `lemma pos synset_count p_count [pointers] sense_count
tagsense_count offset...`, most frequent sense first; an offset is a byte of data.POS, where the
line is `offset file type w_count(hex) (word lex_id)...`. Only words of one part of speech are
taken: which of several a word has in a text cannot be told without a tagger.
"""

import mmap
from functools import lru_cache
from pathlib import Path

from runtime.errors import DataError

PARTS = ("noun", "verb", "adj", "adv")
MIN_LETTERS = 3


def files(folder: Path) -> list[Path]:
    return [folder / f"{kind}.{part}" for kind in ("index", "data") for part in PARTS]


class WordNet:
    """The lemmas of one word and one part of speech, and the mapped data files."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError if WordNet is not there."""
        try:
            self.senses = self.read_index(folder)
            self.data = []
            for part in PARTS:
                with (folder / f"data.{part}").open("rb") as file:
                    self.data.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise DataError(
                f"WordNet cannot be read from {folder} ({error.strerror}); install Debian's "
                "wordnet-base, or set `wordnet` to its folder or `lexicon` to a file of your own"
            ) from None

    def read_index(self, folder: Path) -> dict[str, tuple[int, int]]:
        """For each lemma its part of speech and the offset of its first sense."""
        found: dict[str, tuple[int, int]] = {}
        several: set[str] = set()
        for number, part in enumerate(PARTS):
            with (folder / f"index.{part}").open(encoding="utf-8") as file:
                for line in file:
                    lemma, _, rest = line.partition(" ")
                    # Not the licence, not phrases; letters alone are symbols: t for thymine.
                    if not lemma.isalpha() or len(lemma) < MIN_LETTERS:
                        continue
                    if lemma in found:
                        several.add(lemma)
                    fields = rest.split()
                    found[lemma] = number, int(fields[-int(fields[1])])
        for lemma in several:
            del found[lemma]
        return found

    def synonyms(self, word: str) -> list[str]:
        """The other words of the first sense of a lower-case word, in WordNet's order."""
        if word not in self.senses:
            return []
        number, offset = self.senses[word]
        data = self.data[number]
        fields = data[offset : data.find(b"\n", offset)].decode("utf-8").split(" ")
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        # An adjective can carry its position: galore(ip).
        names = [name.partition("(")[0].replace("_", " ") for name in words]
        if word not in names:  # it is written otherwise in this sense: who is not WHO
            return []
        return [name for name in names if name.lower() != word]


@lru_cache(maxsize=2)
def opened(folder: Path) -> WordNet:
    return WordNet(folder)
