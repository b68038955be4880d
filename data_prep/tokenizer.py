"""The tokenizer of a corpus."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from runtime.config import Positive, PositiveFloat
from runtime.recipe import RecipeTable


class Tokenizer(RecipeTable):
    """Train a SentencePiece unigram tokenizer on the cleaned text, or take an existing one."""

    path: Path | None = None  # existing: folder with tokenizer.json, or a .model; None: train
    vocab_size: int = Field(default=32_768, ge=320, multiple_of=64)  # trained only
    character_coverage: float = Field(default=0.9995, gt=0.9, le=1.0)  # rest: spelt in bytes
    sample_bytes: Positive = 1 << 25  # of text to train on, drawn from the training documents
    source_weights: dict[str, PositiveFloat] = Field(default={})  # of that sample; empty: by size

    @model_validator(mode="after")
    def trains_or_takes(self) -> Self:
        training = {"vocab_size", "character_coverage", "sample_bytes", "source_weights"}
        given = sorted(training & self.model_fields_set)
        if self.path is not None and given:
            raise ValueError(f"`path` takes an existing tokenizer; remove {', '.join(given)}")
        return self
