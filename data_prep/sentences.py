"""Cut text into sentences, Latin and Chinese punctuation alike, so that the pieces make the text.

A sentence ends after . ! ? or … with white space behind it, after 。！？ anywhere, and at a blank
line. Abbreviations ("Dr. Smith") are cut too: whoever needs better needs a model of the language.
"""

import re
from collections.abc import Iterator

END = re.compile(
    r"[.!?…]+[\"'”’»)\]]*\s+"  # white space must follow: 3.14 and example.org are not cut
    r"|[。！？]+[”’」』）]*\s*"
    r"|\n[^\S\n]*\n\s*"
)


def sentences(text: str) -> list[tuple[str, str]]:
    """Each sentence with the white space behind it: joined in order, they are the text again.

    White space before the first sentence is an empty sentence of its own.
    """
    return list(pieces(text))


def pieces(text: str) -> Iterator[tuple[str, str]]:
    start = 0
    for end in [*(match.end() for match in END.finditer(text)), len(text)]:
        if end > start:
            piece = text[start:end]
            body = piece.rstrip()
            yield body, piece[len(body) :]
            start = end


def rearranged(units: list[tuple[str, str]], order: list[int]) -> str:
    """Units in another order; the white space stays where it was."""
    return "".join(units[place][0] + gap for place, (_, gap) in zip(order, units, strict=True))
