"""Gopher's quality rules: is it running text of a natural language?

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher", appendix A.1.1 (arXiv 2112.11446); the defaults are its thresholds. A document is dropped
by the first rule it fails, in the order of the fields.

Where the paper leaves a choice: words are those of `data_prep.words`, punctuation attached; stop
words are counted once each, whatever their case. Scripts without spaces (see `data_prep.facts`):
two characters count as one word; the mean length is that of spaced words only; mean length and
stop words are not asked of mostly unspaced text, and punctuation between its characters is no
word. Stop words are asked of English only: of documents labelled as such, or not labelled (put the
step `language` before this one).
"""

from pydantic import Field

from data_prep.cleaning import Share, Step
from data_prep.documents import Document, Reject, drop
from data_prep.facts import Facts, facts_of

BULLETS = "•‣▶◀◦■□▪▫●○–-*"
ELLIPSES = ("...", "…")


class Params(Step):
    """Gopher's rules on the shape of words and lines. Rae et al. 2021, A.1.1."""

    step: str = "quality"
    min_words: int = Field(default=50, ge=0)  # fewer are dropped
    max_words: int = Field(default=100_000, ge=1)  # more are dropped
    min_mean_word_length: float = Field(default=3.0, ge=0)  # characters
    max_mean_word_length: float = Field(default=10.0, gt=0)  # characters
    max_hashes_per_word: float = Field(default=0.1, ge=0)  # "#" signs
    max_ellipses_per_word: float = Field(default=0.1, ge=0)  # "..." and "…"
    max_bullet_lines: Share = 0.9  # share of lines that begin with a bullet
    max_ellipsis_lines: Share = 0.3  # share of lines that end with an ellipsis
    min_words_with_letter: Share = 0.8  # share of words
    min_stop_words: int = Field(default=2, ge=0)  # different ones; 0 switches the rule off
    stop_words: tuple[str, ...] = (
        "the",
        "be",
        "to",
        "of",
        "and",
        "that",
        "have",
        "with",
    )  # counted in any case of letters
    stop_words_language: str = "en"  # documents with another metadata.language are not asked


def clean(document: Document, params: Params) -> Document | Reject:
    """The same document, or a reject that names the rule."""
    facts = facts_of(document)
    reason = (
        of_word_count(facts, params)
        or of_signs(facts, params)
        or of_lines(facts, params)
        or of_words(facts, params)
        or of_stop_words(document, facts, params)
    )
    return document if reason is None else drop(document, f"quality: {reason}")


def of_word_count(facts: Facts, params: Params) -> str | None:
    if len(facts.words) < params.min_words or facts.num_words < params.min_words:
        return f"fewer than {params.min_words} words"
    if facts.num_words > params.max_words:
        return f"more than {params.max_words} words"
    return None


def of_signs(facts: Facts, params: Params) -> str | None:
    if facts.text.count("#") > params.max_hashes_per_word * facts.num_words:
        return f"more than {params.max_hashes_per_word:g} # per word"
    if num_ellipses(facts.text) > params.max_ellipses_per_word * facts.num_words:
        return f"more than {params.max_ellipses_per_word:g} ellipses per word"
    return None


def num_ellipses(text: str) -> int:
    """How often a text trails off; the Chinese sign is two "…"."""
    single = 0 if text.isascii() else text.count("…") - text.count("……")
    return text.count("...") + single


def of_lines(facts: Facts, params: Params) -> str | None:
    lines = facts.lines
    if sum([line[0] in BULLETS for line in lines]) > params.max_bullet_lines * len(lines):
        return f"more than {params.max_bullet_lines:g} of lines begin with a bullet"
    if sum([line.endswith(ELLIPSES) for line in lines]) > params.max_ellipsis_lines * len(lines):
        return f"more than {params.max_ellipsis_lines:g} of lines end with an ellipsis"
    return None


def of_words(facts: Facts, params: Params) -> str | None:
    num_asked, num_with_letter = len(facts.words), facts.num_with_letter
    if facts.is_unspaced:
        num_asked -= sum(not any(map(str.isalnum, word)) for word in facts.words)
    else:  # each character of a script without spaces is a word of one character
        least, most = params.min_mean_word_length, params.max_mean_word_length
        num_spaced, total = len(facts.words) - facts.num_alone, facts.num_characters
        if not least * num_spaced <= total - facts.num_alone <= most * num_spaced:
            return f"mean word length is not in {least:g}-{most:g}"
    if num_with_letter < params.min_words_with_letter * num_asked:
        return f"fewer than {params.min_words_with_letter:g} of words have a letter"
    return None


def of_stop_words(document: Document, facts: Facts, params: Params) -> str | None:
    language = document.metadata.get("language", params.stop_words_language)
    if not params.min_stop_words or facts.is_unspaced or language != params.stop_words_language:
        return None
    wanted, found = frozenset(params.stop_words), set()
    for word in facts.words:
        if word in wanted or (word := word.lower()) in wanted:
            found.add(word)
            if len(found) >= params.min_stop_words:
                return None
    return f"fewer than {params.min_stop_words} stop words"
