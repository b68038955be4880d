"""Synonyms: replace words by listed ones, from WordNet or from a lexicon in any language."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

from data_prep import wordnet
from data_prep.augmenting import Augmentation
from data_prep.documents import Document
from data_prep.words import words_of
from runtime.config import Share
from runtime.errors import DataError

LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
Lookup = Callable[[str], Sequence[str]]


class Params(Augmentation):
    """Replaces known words; their case is kept."""

    step: str = "synonyms"
    lexicon: Path | None = None  # TSV: word <tab> synonym[,synonym...]; None: WordNet
    wordnet: str = "/usr/share/wordnet"  # folder of index.* and data.* (Debian: wordnet-base)
    rate: Share = 0.1  # share of known words that are replaced


def inputs(params: Params) -> list[Path]:
    """The files a change of which changes the result."""
    return [params.lexicon] if params.lexicon is not None else wordnet.files(Path(params.wordnet))


def augment(document: Document, params: Params, rng: Random) -> Iterator[Document]:
    """One changed copy; nothing if no word was replaced. Raises DataError without synonyms."""
    known, longest = source_of(params)

    def chosen(match: re.Match[str]) -> str:
        return "".join(
            changed(word, known, rng) if rng.random() < params.rate else word
            for word in split(match[0], known, longest)
        )

    text = LETTERS.sub(chosen, document.text)
    if text != document.text:
        yield replace(document, id=f"{document.id}#synonyms", text=text, origin="augmented")


def changed(word: str, known: Lookup, rng: Random) -> str:
    """One of a word's synonyms, in the word's case; the word itself if it is not known."""
    synonyms = known(word.lower())
    if not synonyms:
        return word
    found = rng.choice(synonyms)
    if word.isupper() and len(word) > 1:
        return found.upper()
    return found[0].upper() + found[1:] if word[0].isupper() else found


def split(run: str, known: Lookup, longest: int) -> Iterator[str]:
    """A run of letters as words; in an unspaced script, the longest known word at each place."""
    if len(run) == 1 or words_of(run) == [run]:
        yield run
        return
    place = 0
    while place < len(run):
        sizes = range(min(longest, len(run) - place), 1, -1)
        size = next((size for size in sizes if known(run[place : place + size])), 1)
        yield run[place : place + size]
        place += size


def source_of(params: Params) -> tuple[Lookup, int]:
    """Synonyms of a lower-case word, and the length of the longest word."""
    if params.lexicon is None:
        return wordnet.opened(Path(params.wordnet)).synonyms, 1
    lexicon = read_lexicon(params.lexicon)
    return lambda word: lexicon.get(word, ()), max(map(len, lexicon), default=1)


@lru_cache(maxsize=2)
def read_lexicon(path: Path) -> dict[str, list[str]]:
    """The lines of a lexicon by lower-case word. Raises DataError naming the line."""
    found: dict[str, list[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the lexicon {path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        word, tab, rest = line.partition("\t")
        synonyms = [part.strip() for part in rest.split(",") if part.strip()]
        if not tab or not word.strip() or not synonyms:
            raise DataError(f"{path}:{number} is not `word<tab>synonym,synonym`: {line[:80]!r}")
        found.setdefault(word.strip().lower(), []).extend(synonyms)
    return found
