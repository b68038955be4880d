"""Back-translation: through a local translation model into another language, and back by a second.

Any sequence-to-sequence folders of `transformers` (Marian, T5...). Slow: some sentences a second on
one core; use `share` and `sources`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from data_prep import local_models
from data_prep.augmenting import Augmentation
from data_prep.documents import Document
from data_prep.sentences import sentences
from runtime.config import Positive


class Params(Augmentation):
    """Rewrites every sentence; sentences too long for the models stay as they are."""

    step: str = "back_translation"
    forward: Path  # model folder, from the documents' language
    backward: Path  # model folder, back into it
    num_beams: Positive = 4  # beam search, no sampling: always the same text
    max_tokens: Positive = 256  # of a sentence
    batch_sentences: Positive = 16  # of one document, translated together


def inputs(params: Params) -> list[Path]:
    """The files a change of which changes the result."""
    return [*local_models.files(params.forward), *local_models.files(params.backward)]


def augment(document: Document, params: Params, rng: Random) -> Iterator[Document]:
    """One rewritten copy; nothing if it came back the same or empty. Raises DataError."""
    units = sentences(document.text)
    wanted = [i for i, (body, _) in enumerate(units) if any(map(str.isalpha, body))]
    bodies = [body for body, _ in units]
    for start in range(0, len(wanted), params.batch_sentences):
        places = wanted[start : start + params.batch_sentences]
        batch = [bodies[i] for i in places]
        for folder in (params.forward, params.backward):
            batch = local_models.translate(folder, batch, params.num_beams, params.max_tokens)
        for i, body in zip(places, batch, strict=True):
            bodies[i] = body
    text = "".join(body + gap for body, (_, gap) in zip(bodies, units, strict=True))
    if text != document.text and text.strip():
        id = f"{document.id}#back_translation"
        yield replace(document, id=id, text=text, origin="augmented")
