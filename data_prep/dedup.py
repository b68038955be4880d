"""Which documents repeat another."""

from typing import Literal

from runtime.recipe import RecipeTable


class Dedup(RecipeTable):
    """Which documents count as the same text. The first copy stays: sources in recipe order."""

    exact: bool = True  # remove repeated texts within and across sources
    compare: Literal["text", "words", "words_any_case"] = "words"  # text: byte for byte; words:
    # white space aside; words_any_case: case aside too
