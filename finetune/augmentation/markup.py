"""A row as one line of text that a language model can write, and such a line as a row again.

A sentence has tags around its entities, `<PER>Ada</PER> left.`; of a pair the texts stand on both
sides of ` ||| `; `&`, `<`, `>` and `|` of the text itself are written as in HTML. Reading is
strict: a line with a tag that is unknown, open, nested or empty, or with another number of texts,
is no row.
"""

import html
import re
from collections.abc import Collection, Sequence

from finetune.ner.tagged_text import Sentence

SEPARATOR = " ||| "
TAG = re.compile(r"<(/?)([^<>]*)>")


def of_sentence(row: Sentence) -> str:
    """The line of a sentence."""
    parts = []
    place = 0
    for entity in row.entities:
        start, end = row.offsets[entity.start][0], row.offsets[entity.end - 1][1]
        parts += [escaped(row.text[place:start]), f"<{entity.type}>"]
        parts += [escaped(row.text[start:end]), f"</{entity.type}>"]
        place = end
    return " ".join("".join([*parts, escaped(row.text[place:])]).split())


def of_texts(texts: Sequence[str]) -> str:
    """The line of one or two texts."""
    return SEPARATOR.join(" ".join(escaped(text).split()) for text in texts)


def escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;")


def sentence_parts(line: str, types: Collection[str]) -> list[tuple[str, str | None]] | None:
    """The text of a line in parts, with the entity type of each; None if the line is broken."""
    found: list[tuple[str, str | None]] = []
    inside: str | None = None
    place = 0
    for tag in TAG.finditer(line):
        text = line[place : tag.start()]
        is_closing, kind = bool(tag[1]), tag[2]
        is_right = kind == inside if is_closing else inside is None and kind in types
        if not is_right or (is_closing and not text.strip()):
            return None
        found.append((text, inside))
        inside = None if is_closing else kind
        place = tag.end()
    found.append((line[place:], None))
    if inside is not None or any("<" in text or ">" in text for text, _ in found):
        return None
    return [(html.unescape(text), kind) for text, kind in found if text]


def texts_of(line: str, count: int) -> tuple[str, ...] | None:
    """So many texts of a line; None if they are more or fewer or one is empty."""
    texts = tuple(html.unescape(text.strip()) for text in line.split(SEPARATOR.strip()))
    return texts if len(texts) == count and all(texts) else None
