"""Augmentation: copies of documents that say the same, or nearly, in other words. Opt-in.

An augmentation is a module in `data_prep/augment/` with a `Params(Augmentation)` table and
`augment(document, params, rng) -> Iterator[Document]`, which yields new documents only: never the
text it was given, ids `<id>#<step>`, origin "augmented". One that reads files (a lexicon, a model)
also has `inputs(params) -> list[Path]`: a change of them makes the stage run again. Which
documents are augmented and how depends on the seed, the step's place in the recipe and the
document, never on workers or order.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Annotated

import xxhash
from pydantic import SerializeAsAny

from data_prep.documents import Document
from data_prep.sources import InputFile, SourceName
from runtime import plugins
from runtime.config import Share
from runtime.errors import DataError
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
        num_before = sum(other.step == step.step for other in table.steps[:number])
        for copy in module.augment(document, step, rng):
            yield replace(copy, id=f"{copy.id}.{num_before}") if num_before else copy


def inputs(table: Augment) -> list[InputFile]:
    """The files that all steps read. Raises DataError if one is missing."""
    found = []
    for step in table.steps:
        module = plugins.find(AUGMENTATIONS, step.step)
        if not hasattr(module, "inputs"):
            continue
        paths = module.inputs(step)
        if not paths:
            raise DataError(f"augment step {step.step}: its folders hold no file to read")
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                raise DataError(f"augment step {step.step}: {path}: {error.strerror}") from None
            found.append(InputFile(str(path), status.st_size, str(status.st_mtime)))
    return found


def rng_of(seed: int, number: int, document: Document) -> Random:
    """The random numbers of one step for one document."""
    key = f"{seed}\n{number}\n{document.source}\n{document.id}"
    return Random(xxhash.xxh3_128_intdigest(key.encode("utf-8", "surrogatepass")))
