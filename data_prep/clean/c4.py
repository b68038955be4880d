"""C4's rules: only lines that look like sentences, only pages with some of them.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 2.2 (JMLR 21, arXiv 1910.10683); numbers and phrases as in the pipeline that
was released with it. First the rules for pages, then those for lines, then the number of sentences
that are left. Every rule is a field.

Not here: the list of bad words, which drops whole subjects and dialects; repeated spans, see
`[dedup]`. Blank lines stay as bounds of paragraphs. Ends of sentences and quotation marks of other
scripts count as well, and words are those of `data_prep.words`, so that five Chinese characters are
as good as five words.
"""

import re
from itertools import islice

from pydantic import Field

from data_prep.cleaning import Step, with_lines
from data_prep.documents import Document, Reject, drop
from data_prep.facts import CLOSING_QUOTES, SENTENCE_ENDS, facts_of
from data_prep.words import words_of

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICY = ("terms of use", "privacy policy")
COOKIES = ("cookie policy", "uses cookies", "use of cookies", "use cookies")
LINE_ENDS = (*SENTENCE_ENDS, *CLOSING_QUOTES)
ELLIPSES = ("...", "…")
# An ASCII end counts before white space only: "3.5" and "e.g.," hold none, "No." does.
SENTENCE_END = re.compile(
    rf"[.!?]+[{''.join(CLOSING_QUOTES)}')\]]*(?=\s|$)|[{''.join(SENTENCE_ENDS[3:])}]+"
)


class Params(Step):
    """Keeps the lines of a page that are sentences. Raffel et al. 2020, section 2.2."""

    step: str = "c4"
    drop_lorem_ipsum: bool = True  # documents with that phrase
    drop_curly_bracket: bool = True  # documents with "{": mostly code
    remove_citations: bool = True  # "[1]", "[]", "[edit]", "[citation needed]"
    terminal_punctuation: bool = True  # a line without it, or with an ellipsis, goes
    min_words_per_line: int = Field(default=5, ge=0)  # a line with fewer goes
    max_word_length: int = Field(default=1000, ge=1)  # characters; a line with a longer word goes
    remove_javascript: bool = True  # lines with that word
    remove_policy: bool = True  # lines with "terms of use", "use cookies" and the like
    min_sentences: int = Field(default=3, ge=0)  # left in the document


def clean(document: Document, params: Params) -> Document | Reject:
    """The document with the lines that pass, or a reject that names the rule."""
    facts = facts_of(document)
    text, lowered = document.text, facts.lowered
    if params.drop_lorem_ipsum and b"lorem ipsum" in lowered:
        return drop(document, "c4: lorem ipsum")
    if params.drop_curly_bracket and "{" in text:
        return drop(document, "c4: curly bracket")
    if params.remove_citations and "[" in text:
        text = CITATION.sub("", text)
    unwanted = [phrase for phrase in phrases(params, lowered) if phrase.encode() in lowered]
    lines = [
        line for line in text.split("\n")
        if not (bare := line.strip()) or is_sentence(bare, params, unwanted, facts.num_alone > 0)
    ]  # fmt: skip
    result = with_lines(document, lines, "c4")
    if isinstance(result, Document):
        found = islice(SENTENCE_END.finditer(result.text), params.min_sentences)
        if sum(1 for _ in found) < params.min_sentences:
            return drop(document, f"c4: fewer than {params.min_sentences} sentences")
    return result


def phrases(params: Params, lowered: bytes) -> tuple[str, ...]:
    """What may be in no line, lower-cased."""
    found: tuple[str, ...] = ("javascript",) if params.remove_javascript else ()
    if params.remove_policy:
        found += POLICY + (COOKIES if b"cookie" in lowered else ())
    return found


def is_sentence(line: str, params: Params, unwanted: list[str], is_mixed: bool) -> bool:
    """Whether a line passes.

    `unwanted`: phrases that occur in the document, lower-cased. `is_mixed`: characters that are
    words by themselves do.
    """
    if params.terminal_punctuation and (
        not line.endswith(LINE_ENDS) or line.endswith(ELLIPSES)
    ):  # fmt: skip
        return False
    least = params.min_words_per_line
    # Split no further than needed: five pieces are five words.
    if len(line.split(None, least)) < least and not (is_mixed and len(words_of(line)) >= least):
        return False
    if len(line) > params.max_word_length and any(
        len(word) > params.max_word_length for word in line.split()
    ):
        return False
    return not (unwanted and any(phrase in line.lower() for phrase in unwanted))
