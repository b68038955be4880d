"""How documents become samples."""

from typing import Literal, Self

from pydantic import Field, model_validator

from runtime.config import Positive
from runtime.recipe import RecipeTable


class Packing(RecipeTable):
    """How documents become fixed-length samples."""

    sequence_length: int = Field(default=512, ge=8)  # tokens per sample, separators included
    strategy: Literal["best_fit", "concat"] = (
        "best_fit"  # concat fills every sample and cuts documents
    )
    drop_shorter_than: int = Field(default=8, ge=1)  # tokens; shorter documents are counted
    shard_tokens: Positive = 1 << 25  # documents packed together: memory and size of one shard
    valid_share: float = Field(default=0.005, ge=0.0, lt=1.0)  # of documents, by hash of the text

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.sequence_length <= self.drop_shorter_than + 2:
            raise ValueError(
                f"sequence_length ({self.sequence_length}) must exceed drop_shorter_than "
                f"({self.drop_shorter_than}) and the two separators"
            )
        if self.shard_tokens < self.sequence_length:
            raise ValueError(
                f"shard_tokens ({self.shard_tokens}) must be at least sequence_length "
                f"({self.sequence_length})"
            )
        return self
