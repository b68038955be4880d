"""How much of an evaluation set was in the pretraining text: the count beside every score.

Data preparation counts it, the encoder's textmill.json carries it here by name of the set: a task's
test rows are the set of the task's name, its validation rows `NAME.valid`. An encoder from
elsewhere, or a set that was not looked for, is unknown: never taken for clean.
"""

from collections.abc import Container, Mapping
from typing import Any

UNKNOWN = "contamination unknown"


def of(
    task: str, splits: Container[str], record: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """For each scored split what the record says of it (None: nothing), and that in words."""
    known = record or {}
    names = {"valid": f"{task}.valid", "test": task}
    return {
        split: {"words": in_words(split, known.get(name)), "facts": known.get(name)}
        for split, name in names.items()
        if split in splits
    }


def in_words(split: str, facts: Mapping[str, Any] | None) -> str:
    """For example `0 of 1,287 test examples in the pretraining text`."""
    if facts is None:
        return UNKNOWN
    words = (
        f"{facts['examples_left']:,} of {facts['examples']:,} {split} examples "
        "in the pretraining text"
    )
    if facts["documents_dropped"]:
        words += (
            f"; {facts['examples_found']:,} found and removed with "
            f"{facts['documents_dropped']:,} documents"
        )
    return words
