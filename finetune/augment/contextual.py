"""Contextual replacement: words by what a masked language model puts in their place.

One word at a time is masked, and one of the likeliest other words is drawn for it, seeing those
drawn before (after Kobayashi 2018, arXiv 1805.06201, without labels). The model knows nothing of
the label: "good" may become "bad", so that `filter_model` is worth its time where words decide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np

from finetune.augmentation import edits, masked_words
from finetune.augmentation.augmenting import Augmentation, model_files
from finetune.augmentation.masked_words import MaskedLM
from runtime.config import Positive, PositiveFloat, Share

FITS = ("token", "sequence")


class Params(Augmentation):
    """Replaces words by likely ones."""

    kind: Literal["contextual"] = "contextual"
    model: Path | None = None  # folder of a masked language model; None: the task's encoder
    rate: Share = 0.15  # of a row's words, at least one
    top_k: Positive = 10  # drawn among so many of the likeliest words
    temperature: PositiveFloat = 1.0  # of drawing; low: nearly always the likeliest
    in_mentions: bool = False  # also words of entities


def inputs(params: Params) -> list[Path]:
    return [] if params.model is None else model_files(params.model)


def prepare(train: Sequence[Any], task: Any, params: Params) -> MaskedLM:
    """Raises DataError if the folder holds no masked language model."""
    return masked_words.opened(masked_words.folder_of(params.model, task))


def augment(row: Any, resources: MaskedLM, params: Params, rng: Random) -> Iterator[Any]:
    """One copy; the row itself if it has no word to replace."""

    def change(words: list[edits.Word]) -> list[edits.Word]:
        places = edits.lettered(words) if params.in_mentions else edits.free(words)
        count = min(len(places), max(1, round(params.rate * len(places))))
        runs = resources.runs(words) if places else []
        found = list(words)
        for i in sorted(rng.sample(places, count)):
            runs[i] = np.array([resources.mask_id], dtype=np.int32)
            token = resources.drawn(
                np.concatenate(runs),
                sum(map(len, runs[:i])),
                resources.whole(words[i].text),
                params.top_k,
                params.temperature,
                rng,
            )
            if token is None:
                return words
            runs[i] = np.array([token], dtype=np.int32)
            found[i] = replace(words[i], text=resources.written([token], words[i].text))
        return found

    yield edits.edited(row, rng, change)
