"""Terms that have replacements, found among the words of a row.

Replacements come from WordNet's files or from a lexicon of the user's, in any language:
`word<tab>replacement[,replacement...]` a line. A term may be several words ("New York", or the
characters of a Chinese word); of overlapping ones the longest that begins first is taken. A term
lies in one mention or outside of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from data_prep import wordnet
from data_prep.augment.synonyms import changed, read_lexicon
from finetune.augmentation import edits
from finetune.augmentation.edits import Word
from finetune.ner import words

WORDNET = "/usr/share/wordnet"  # where Debian's wordnet-base puts it


@dataclass(frozen=True)
class Lexicon:
    """Replacements by term."""

    lookup: Callable[[str], Sequence[str]]  # of a term as it is written
    longest: int  # words of a term


def opened(lexicon: Path | None, folder: str) -> Lexicon:
    """The user's lexicon, or WordNet in a folder. Raises DataError if it cannot be read."""
    if lexicon is None:
        return Lexicon(content_words(wordnet.opened(Path(folder)).synonyms), 1)
    table = read_lexicon(lexicon)
    longest = max((len(words.split(term)) for term in table), default=1)
    return Lexicon(lambda term: table.get(term.lower(), ()), longest)


def content_words(synonyms: Callable[[str], list[str]]) -> Callable[[str], Sequence[str]]:
    """Synonyms of words that are neither function words ("but" is no synonym of "merely") nor
    written in capitals, which are names."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # late: takes a second

    def found(term: str) -> Sequence[str]:
        is_name = len(term) > 1 and term.isupper()
        return () if is_name or term.lower() in ENGLISH_STOP_WORDS else synonyms(term.lower())

    return found


def inputs(lexicon: Path | None, folder: str) -> list[Path]:
    """The files that `opened` reads."""
    return [lexicon] if lexicon is not None else wordnet.files(Path(folder))


def terms(row: Sequence[Word], lexicon: Lexicon, in_mentions: bool) -> list[tuple[int, int]]:
    """First word and the one after the last of every term the lexicon knows, in order."""
    found = []
    place = 0
    while place < len(row):
        end = place
        if in_mentions or row[place].mention is None:
            ends = range(min(place + lexicon.longest, len(row)), place, -1)
            end = next((end for end in ends if is_term(row[place:end], lexicon)), place)
        if end > place:
            found.append((place, end))
        place = max(end, place + 1)
    return found


def is_term(row: Sequence[Word], lexicon: Lexicon) -> bool:
    return len({word.mention for word in row}) == 1 and bool(lexicon.lookup(spelled(row)))


def spelled(row: Sequence[Word]) -> str:
    return words.join([word.text for word in row])[0]


def replaced(
    row: Sequence[Word], places: Sequence[tuple[int, int]], lexicon: Lexicon, rng: Random
) -> list[Word]:
    """The words with the terms at these places, in order, replaced; their case is kept."""
    found = list(row)
    for start, end in reversed(places):
        text = changed(spelled(row[start:end]), lexicon.lookup, rng)
        found = edits.replaced(found, start, end, text)
    return found


def some(places: Sequence[tuple[int, int]], rate: float, rng: Random) -> list[tuple[int, int]]:
    """A share of places, at least one if there is any, in order."""
    count = min(len(places), max(1, round(rate * len(places))))
    return sorted(rng.sample(places, count))
