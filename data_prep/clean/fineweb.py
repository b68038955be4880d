"""FineWeb's rules: lists, menus and pages of repeated lines that Gopher's and C4's rules let pass.

Source: Penedo et al. 2024, "The FineWeb Datasets: Decanting the Web for the Finest Text Data at
Scale" (arXiv 2406.17557), section 3.6 and the released pipeline, whose thresholds are the defaults;
for `max_duplicate_characters` the paper says 0.1 and the pipeline ran with 0.01. A document is
dropped by the first rule it fails, in the order of the fields.

Lines are those that are not blank, without white space around them. Ends of sentences and quotation
marks of other scripts count as well; in mostly unspaced text (see `data_prep.facts`) a character is
as wide as two, and two are a word.
"""

from pydantic import Field

from data_prep.cleaning import Share, Step
from data_prep.documents import Document, Reject, drop
from data_prep.facts import CLOSING_QUOTES, SENTENCE_ENDS, facts_of

LINE_ENDS = (*SENTENCE_ENDS, *CLOSING_QUOTES, "'")


class Params(Step):
    """FineWeb's rules on lines. Penedo et al. 2024, section 3.6."""

    step: str = "fineweb"
    min_punctuated_lines: Share = 0.12  # share of lines; dropped at it too; 0 switches it off
    max_short_lines: Share = 0.67  # share of lines; dropped at it too
    short_line_length: int = Field(default=30, ge=0)  # characters, included; 0 switches it off
    max_duplicate_characters: Share = 0.01  # in copies of lines; dropped at it too; 1 switches off
    max_newlines_per_word: float = Field(default=0.3, ge=0)  # of the whole text; dropped above it


def clean(document: Document, params: Params) -> Document | Reject:
    """The same document, or a reject that names the rule."""
    facts = facts_of(document)
    lines = facts.lines
    if not lines:
        return drop(document, "fineweb: no line")
    longest = params.short_line_length / (2 if facts.is_unspaced else 1)
    num_punctuated = sum([line.endswith(LINE_ENDS) for line in lines])
    num_short = sum([length <= longest for length in map(len, lines)])
    if 0 < params.min_punctuated_lines >= num_punctuated / len(lines):
        reason = f"at most {params.min_punctuated_lines:g} of lines end in punctuation"
    elif num_short >= params.max_short_lines * len(lines):
        reason = f"at least {params.max_short_lines:g} of lines are short"
    elif facts.copied_lines[1] >= params.max_duplicate_characters:
        reason = f"at least {params.max_duplicate_characters:g} of text is in copied lines"
    elif facts.text.count("\n") > params.max_newlines_per_word * facts.num_words:
        reason = f"more than {params.max_newlines_per_word:g} newlines per word"
    else:
        return document
    return drop(document, f"fineweb: {reason}")
