"""Synthesis by a masked language model that sees the labels (like MELM, arXiv 2108.13655).

The model is first adapted to the training rows with their labels written in, then words of
entities (of texts: any words) are masked and drawn anew, token by token from the left. So a
sentence gets mentions that no training row has, and a text other words for the same label. It helps
where labelled rows are few; what the label does not decide, `filter_model` must.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from finetune.augmentation import edits, label_conditioning, masked_words
from finetune.augmentation.augmenting import Augmentation, model_files
from finetune.augmentation.edits import Word
from finetune.augmentation.label_conditioning import Conditioned, Labelled
from finetune.ner.tagged_text import Sentence
from runtime.config import Positive, PositiveFloat, Share

FITS = ("token", "sequence")


class Params(Augmentation):
    """Draws words of entities, or of texts, anew."""

    kind: Literal["masked_lm"] = "masked_lm"
    model: Path | None = None  # folder of a masked language model; None: the task's encoder
    steps: Positive = 100  # of adapting it, 16 rows each
    learning_rate: PositiveFloat = 1e-4  # of adapting it, at the beginning
    rate: Share = 0.5  # of a row's words of entities (of a text: of its words), at least one
    top_k: Positive = 5  # drawn among so many of the likeliest tokens
    temperature: PositiveFloat = 1.0  # of drawing


def inputs(params: Params) -> list[Path]:
    return [] if params.model is None else model_files(params.model)


def prepare(train: Sequence[Any], task: Any, params: Params) -> Conditioned:
    """Raises DataError without a masked language model, or if the rows have no labels."""
    folder = masked_words.folder_of(params.model, task)
    return label_conditioning.conditioned(folder, train, params.steps, params.learning_rate)


def augment(row: Any, resources: Conditioned, params: Params, rng: Random) -> Iterator[Any]:
    """One copy; the row itself if it has no word to draw anew."""

    def change(text: list[Word]) -> list[Word]:
        places = label_conditioning.drawable(text, isinstance(row, Sentence))
        count = min(len(places), max(1, round(params.rate * len(places))))
        tokens = resources.labelled(row, text)
        drawn = sorted(rng.sample(places, count))
        for i in drawn:
            run, around = tokens.runs[i]
            tokens.runs[i] = [resources.lm.mask_id] * len(run), around
        found = list(text)
        for i in drawn:
            fill(tokens, i, text[i].text, resources, params, rng)
            written = resources.lm.written(tokens.runs[i][0], text[i].text)
            found[i] = replace(text[i], text=written or text[i].text)
        return found

    yield edits.edited(row, rng, change)


def fill(
    tokens: Labelled, word: int, old: str, model: Conditioned, params: Params, rng: Random
) -> None:
    """Draw the masked tokens of a word, from its first to its last."""
    run, _ = tokens.runs[word]
    for i in range(len(run)):
        token = model.lm.drawn(
            tokens.ids(),
            tokens.place(word) + i,
            model.lm.part(old, i == 0),
            params.top_k,
            params.temperature,
            rng,
        )
        if token is None:  # the vocabulary has no such tokens
            run.clear()
            return
        run[i] = token
