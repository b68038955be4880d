"""Augmentation: copies of documents that say the same, or nearly, in other words. Opt-in.

An augmentation is a module in `data_prep/augment/` with a `Params(Augmentation)` table and
`augment(document, params, rng) -> Iterator[Document]`, which yields new documents only: never the
text it was given, ids `<id>#<step>`, origin "augmented". Which documents are augmented and how
depends on the seed, the step's place in the recipe and the document, never on workers or order.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Annotated

import xxhash
from pydantic import SerializeAsAny

from data_prep.documents import Document
from data_prep.sources import SourceName
from runtime import plugins
from runtime.config import Share
from runtime.recipe import RecipeTable

AUGMENTATIONS = "data_prep.augment"


class Augmentation(RecipeTable):
    """One way of making new documents from others."""

    step: str  # file name in data_prep/augment, or the dotted path of a module elsewhere
    sources: tuple[SourceName, ...] = ()  # whose documents; (): those of all sources
    share: Share = 1.0  # of their documents that get a copy


AnyAugmentation = Annotated[SerializeAsAny[Augmentation], plugins.table(AUGMENTATIONS, "step")]


class Augment(RecipeTable):
    """What is added to the corpus beside the documents that were read."""

    steps: tuple[AnyAugmentation, ...] = ()  # each takes the documents as read


def augmented(document: Document, table: Augment, seed: int) -> Iterator[Document]:
    """The new documents that all steps make of one."""
    for number, step in enumerate(table.steps):
        if step.sources and document.source not in step.sources:
            continue
        rng = rng_of(seed, number, document)
        if rng.random() >= step.share:
            continue
        module = plugins.find(AUGMENTATIONS, step.step)
        for copy in module.augment(document, step, rng):
            yield replace(copy, id=f"{copy.id}.{number}") if number else copy


def rng_of(seed: int, number: int, document: Document) -> Random:
    """The random numbers of one step for one document."""
    key = f"{seed}\n{number}\n{document.source}\n{document.id}"
    return Random(xxhash.xxh3_128_intdigest(key.encode("utf-8", "surrogatepass")))
