"""Back-translation: through a local translation model into another language, and back by a second.

Any sequence-to-sequence folders of `transformers` (Marian, T5...). Of a pair one text is rewritten.
A tagged sentence counts only if it comes back with exactly its mentions: each as it was written and
as often, and no word equal to one outside of them; the others are given up, and counted as
`unchanged`. Slow: some sentences a second on one core; sentences too long for the models stay.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from data_prep import local_models
from data_prep.sentences import sentences
from finetune.augmentation import edits, masked_words
from finetune.augmentation.apart import apart
from finetune.augmentation.augmenting import Augmentation, model_files
from finetune.ner.tagged_text import Sentence
from runtime.config import Positive

FITS = ("token", "sequence")


class Params(Augmentation):
    """Rewrites a text by translating it forth and back."""

    kind: Literal["back_translation"] = "back_translation"
    forward: Path  # model folder, from the rows' language
    backward: Path  # model folder, back into it
    num_beams: Positive = 4  # beam search, no sampling: one copy a row is all there is
    max_tokens: Positive = 256  # of a sentence


def inputs(params: Params) -> list[Path]:
    return [*model_files(params.forward), *model_files(params.backward)]


def prepare(train: Sequence[Any], task: Any, params: Params) -> None:
    """Raises DataError if a folder holds no model; both stay open."""
    with apart():
        for folder in (params.forward, params.backward):
            local_models.load(folder, "AutoModelForSeq2SeqLM")


def augment(row: Any, resources: None, params: Params, rng: Random) -> Iterator[Any]:
    """One copy; the row itself if it came back the same or lost a mention."""
    if isinstance(row, Sentence):
        parts = parts_with_mentions(row, translated(row.text, params))
        yield row if parts is None else edits.rewritten(row, parts)
        return
    place = rng.randrange(len(row.texts))
    text = translated(row.texts[place], params)
    yield replace(row, texts=(*row.texts[:place], text, *row.texts[place + 1 :]))


def translated(text: str, params: Params) -> str:
    """The text sentence by sentence; as it was if nothing came back, or parts of characters."""
    units = sentences(text)
    wanted = [i for i, (body, _) in enumerate(units) if any(map(str.isalpha, body))]
    bodies = [body for body, _ in units]
    batch = [bodies[i] for i in wanted]
    with apart():
        for folder in (params.forward, params.backward):
            batch = local_models.translate(folder, batch, params.num_beams, params.max_tokens)
    for i, body in zip(wanted, batch, strict=True):
        bodies[i] = body
    found = "".join(body + gap for body, (_, gap) in zip(bodies, units, strict=True))
    is_text = found.strip() and local_models.UNFINISHED not in found
    return found if is_text else text


def parts_with_mentions(row: Sentence, text: str) -> list[tuple[str, str | None]] | None:
    """The text in parts, mentions with their types; None if they are not exactly the row's."""
    types: dict[str, str] = {}
    for entity in row.entities:
        start, end = row.offsets[entity.start][0], row.offsets[entity.end - 1][1]
        if types.setdefault(row.text[start:end], entity.type) != entity.type:
            return None
    if not types:
        return [(text, None)]
    longest_first = sorted(types, key=len, reverse=True)
    bounded = (f"{edge(m, 0)}{re.escape(m)}{edge(m, -1)}" for m in longest_first)
    pattern = re.compile("|".join(bounded))
    before, after = (Counter(pattern.findall(found)) for found in (row.text, text))
    if before != after or before.total() != len(row.entities):
        return None
    parts: list[tuple[str, str | None]] = []
    place = 0
    for match in pattern.finditer(text):
        parts += [(text[place : match.start()], None), (match[0], types[match[0]])]
        place = match.end()
    return [*parts, (text[place:], None)]


def edge(mention: str, side: int) -> str:
    """That a mention does not end inside a word, where it ends with a letter of one."""
    if not masked_words.is_letter(mention[side]):
        return ""
    look = "(?<" if side == 0 else "(?"
    return rf"(?:{look}![^\W_])|{look}={edits.CHARACTER}))"
