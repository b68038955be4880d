"""The part of a recipe that data preparation reads: composes the tables, checks them together."""

from typing import Self

from pydantic import Field, model_validator

import runtime.config
from data_prep.augmenting import Augment
from data_prep.cleaning import Clean
from data_prep.decontamination import Decontaminate
from data_prep.dedup import Dedup
from data_prep.mixture import Mixture
from data_prep.packing import Packing
from data_prep.sources import AnySource, SourceName
from data_prep.tokenizer import Tokenizer


class Recipe(runtime.config.Recipe):
    """What `python -m data_prep` reads from a recipe."""

    sources: dict[SourceName, AnySource] = Field(default={})  # first copy of a text stays
    clean: Clean = Clean()
    decontaminate: Decontaminate = Decontaminate()
    augment: Augment = Augment()
    dedup: Dedup = Dedup()
    tokenizer: Tokenizer = Tokenizer()
    packing: Packing = Packing()
    mixture: Mixture = Mixture()

    @model_validator(mode="after")
    def names_known_sources(self) -> Self:
        steps = self.augment.steps
        for place, weights in (
            ("mixture.weights", self.mixture.weights),
            ("mixture.max_epochs", self.mixture.max_epochs),
            ("dedup.lines_except", self.dedup.lines_except),
            *((f"augment.steps.{i}.sources", step.sources) for i, step in enumerate(steps)),
            ("tokenizer.source_weights", self.tokenizer.source_weights),
        ):
            unknown = sorted(set(weights) - set(self.sources))
            if unknown and self.sources:
                raise ValueError(
                    f"{place} names {', '.join(unknown)}, which is not in [sources]; "
                    f"sources are: {', '.join(self.sources)}"
                )
        return self
