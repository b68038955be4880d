"""Predicted entities of a sentence: made from what decoding found, shown, and compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.ner import tags
from finetune.ner.chain import Chain, Decoded, decode
from finetune.ner.tagged_text import Sentence
from finetune.ner.tags import Span
from finetune.ner.windows import Outputs

Claims = tuple[list[bool], list[float]]  # is exactly right, and how sure the model was


@dataclass(frozen=True)
class Prediction:
    """One tag a word, the entities they say, and how sure the model is of each."""

    tags: list[str]
    entities: list[Span]
    confidences: list[float]  # probability of exactly this entity
    is_repaired: bool  # the most probable tags were no valid sequence


def predictions(
    rows: Sequence[Sentence], outputs: Sequence[Outputs], chain: Chain
) -> list[Prediction]:
    """The entities of every sentence; one without any token has none."""
    scored = [i for i, found in enumerate(outputs) if len(found.words)]
    decoded = decode([outputs[i].scores for i in scored], chain)
    best = dict(zip(scored, decoded, strict=True))
    return [
        prediction_of(row, outputs[i].words, best.get(i), chain.labels)
        for i, row in enumerate(rows)
    ]


def prediction_of(
    row: Sentence, words: NDArray[np.int64], decoded: Decoded | None, labels: Sequence[str]
) -> Prediction:
    """Entities of the words that have tokens as entities of all words."""
    found = decoded.spans if decoded else []
    entities = [
        Span(int(words[start]), int(words[end - 1]) + 1, labels[label][2:])
        for start, end, label, _ in found
    ]
    return Prediction(
        tags.iob2(entities, len(row.words)),
        entities,
        [chance for *_, chance in found],
        bool(decoded and decoded.is_repaired),
    )


def shown(row: Sentence, entity: Span) -> dict[str, Any]:
    """An entity with characters of the text."""
    start, end = row.offsets[entity.start][0], row.offsets[entity.end - 1][1]
    return {"start": start, "end": end, "label": entity.type, "text": row.text[start:end]}


def claims(rows: Sequence[Sentence], found: Sequence[Prediction], kind: str) -> Claims:
    """Of the predicted entities of a type: is it exactly right, and how sure was the model."""
    is_right: list[bool] = []
    confidences: list[float] = []
    for row, prediction in zip(rows, found, strict=True):
        wanted = set(row.entities)
        for span, sure in zip(prediction.entities, prediction.confidences, strict=True):
            if span.type == kind:
                is_right.append(span in wanted)
                confidences.append(sure)
    return is_right, confidences


def num_missed(rows: Sequence[Sentence], found: Sequence[Prediction], kind: str) -> int:
    """Gold entities of a type that were not found."""
    return sum(
        span.type == kind and span not in prediction.entities
        for row, prediction in zip(rows, found, strict=True)
        for span in row.entities
    )
