"""Synthesis: new text by a local language model, begun or guided by a document.

A causal model continues the document's first sentence; a masked model draws a share of the
document's tokens anew. Text of a model is not text of people: keep `share` small and look at it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from data_prep import local_models
from data_prep.augmenting import Augmentation
from data_prep.documents import Document
from data_prep.sentences import sentences
from runtime.config import Positive, PositiveFloat, Share


class Params(Augmentation):
    """Writes one text a document; the model's architecture says which way."""

    step: str = "synthesis"
    model: Path  # folder of a causal or a masked language model with its tokenizer
    max_tokens: Positive = 256  # causal: written after the first sentence
    temperature: PositiveFloat = 1.0  # of sampling
    top_p: PositiveFloat = 0.95  # causal: drawn among the likeliest tokens with this much together
    mask_rate: Share = 0.15  # masked: share of the tokens drawn anew


def inputs(params: Params) -> list[Path]:
    """The files a change of which changes the result."""
    return local_models.files(params.model)


def augment(document: Document, params: Params, rng: Random) -> Iterator[Document]:
    """One new text; nothing for a document without words. Raises DataError without a model."""
    first = next((body for body, _ in sentences(document.text) if body.strip()), "")
    if not first:
        return
    seed = rng.getrandbits(63)
    if local_models.is_masked(params.model):
        text = local_models.refilled(
            params.model, document.text, params.mask_rate, params.temperature, seed
        )
    else:
        text = first + local_models.continued(
            params.model, first, params.max_tokens, params.temperature, params.top_p, seed
        )
        if text == first:
            return
    if text != document.text and text.strip():
        yield replace(document, id=f"{document.id}#synthesis", text=text, origin="augmented")
