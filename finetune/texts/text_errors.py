"""Where predictions of texts go wrong: by how long the texts are, and row by row.

For the `analysis` of the tasks that read labelled texts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.texts.labelled_text import Row

LENGTHS = 4  # ranges of text length, about as many rows in each
EXAMPLES = 20  # rows that are shown of a kind
SHOWN = 400  # characters of a text in an example


def by_length(rows: Sequence[Row], value: NDArray[Any], name: str) -> list[dict[str, Any]]:
    """The mean of a value (rows,) in ranges of text length."""
    lengths = np.array([sum(map(len, row.texts)) for row in rows])
    cuts = np.unique(np.quantile(lengths, np.arange(1, LENGTHS) / LENGTHS))
    places = np.searchsorted(cuts, lengths, side="left")
    found = []
    for place in np.unique(places):
        members = places == place
        low, high = int(lengths[members].min()), int(lengths[members].max())
        found.append(
            {
                "characters": f"{low} to {high}",
                "rows": int(members.sum()),
                name: float(value[members].mean()),
            }
        )
    return found


def worst(rows: Sequence[Row], badness: NDArray[Any], details: Sequence[Any]) -> list[Any]:
    """The rows that are worst, with their texts and these details; those of badness 0 are good."""
    order = np.argsort(-badness, kind="stable")[:EXAMPLES]
    return [example(rows[i], details[i]) for i in order if badness[i] > 0]


def example(row: Row, details: dict[str, Any]) -> dict[str, Any]:
    """A row as people read it."""
    names = ("text",) if len(row.texts) == 1 else ("first text", "second text")
    shown = [text if len(text) <= SHOWN else f"{text[:SHOWN]} ..." for text in row.texts]
    return {"line": row.line, **dict(zip(names, shown, strict=True)), **details}
