"""Facts about a text that several cleaning rules ask for, each found once.

Rules speak of words and lines. Words are those of `data_prep.words`; a line is what stands between
two newlines, and lines without a character but white space do not count.

Scripts without spaces. There every character is a word, and rules made for English words would
throw all Chinese away, or pass it unread. So a text is *mostly unspaced* if most of its words are
such characters, and there two characters are taken for one word (a Chinese word has 1.5 to 2):
`num_words` counts such characters by halves, n-grams are of twice as many, and rules about the
spelling of words look at spaced words only, or not at all.
"""

from functools import cached_property
from itertools import filterfalse

import numpy as np
from numpy.typing import NDArray

from data_prep.documents import Document
from data_prep.words import codes_of, is_alone, unspaced

# What ends a sentence, in the scripts that have their own sign for it, and what closes a quotation.
SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "｡", "؟", "۔", "।", "॥", "։", "።")
CLOSING_QUOTES = ('"', "”", "’", "»", "」", "』")


SPACE_OR_SAME = bytes(ord(" ") if chr(code).isspace() else code for code in range(256))
NEITHER = bytes(  # neither a small letter nor white space
    code for code in range(256) if not (chr(code).isspace() or ord("a") <= code <= ord("z"))
)


class Facts:
    """What rules ask about one text."""

    def __init__(self, text: str, words: list[str]) -> None:
        self.text = text
        self.words = words

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without white space around them."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @cached_property
    def copied_lines(self) -> tuple[float, float]:
        """The shares of lines, and of their characters, that are copies of an earlier line."""
        return copies(self.lines)

    @cached_property
    def lowered(self) -> bytes:
        """The text in UTF-8 with ASCII letters in lower case, to look for phrases in."""
        return self.text.encode("utf-8", "surrogatepass").lower()

    @cached_property
    def word_hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of each word: only good for asking which words of this text are equal.

        Python's own hash: numbering the words by a dictionary takes three times as long. It
        differs from process to process, whether two are equal does not, but for a chance of
        1 : 10^9 in a text of 200,000 different words.
        """
        hashes = np.fromiter(map(hash, self.words), np.int64, len(self.words))
        return hashes.view(np.uint64)

    @cached_property
    def word_lengths(self) -> NDArray[np.int64]:
        """Characters of each word."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    @cached_property
    def num_characters(self) -> int:
        """Characters of words: all but white space."""
        return sum(map(len, self.words))

    @cached_property
    def num_alone(self) -> int:
        """How many words are single characters of scripts without spaces."""
        alone = None if self.text.isascii() else unspaced(codes_of(self.text))
        return 0 if alone is None else int(np.count_nonzero(alone))

    @cached_property
    def num_with_letter(self) -> int:
        """How many words have a letter."""
        if self.text.isascii():  # what is left without all but letters and white space
            return len(self.lowered.translate(SPACE_OR_SAME, NEITHER).split())
        rest = [word for word in filterfalse(str.isalpha, self.words) if not word[0].isalpha()]
        if self.num_alone:  # vowel signs of such scripts are no letters by themselves
            rest = [word for word in rest if len(word) > 1 or not is_alone(word)]
        return len(self.words) - sum(
            [len(word) == 1 or not any(map(str.isalpha, word)) for word in rest]
        )

    @property
    def is_unspaced(self) -> bool:
        """Whether most words are characters of scripts without spaces."""
        return 2 * self.num_alone > len(self.words)

    @property
    def num_words(self) -> float:
        """Words, two characters of scripts without spaces for one."""
        return len(self.words) - self.num_alone / 2


def copies(pieces: list[str]) -> tuple[float, float]:
    """The shares of pieces, and of their characters, that are copies of an earlier piece."""
    different = set(pieces)
    if len(different) == len(pieces):
        return 0.0, 0.0
    count, total = len(pieces), sum(map(len, pieces))
    return (count - len(different)) / count, (total - sum(map(len, different))) / total


def facts_of(document: Document) -> Facts:
    """The facts about a document's text, kept with it as its words are."""
    facts: Facts | None = document.__dict__.get("facts")
    if facts is None:
        facts = document.__dict__["facts"] = Facts(document.text, document.words)
    return facts
