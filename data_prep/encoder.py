"""Texts to token ids, by the fastest way that gives the ids of tokenizer.json.

The way is chosen by what the tokenizer is (`data_prep/encoders/`). In every batch some texts are
encoded by the reference too. If one differs, the reference encodes this batch and all later ones;
that is counted in `num_mismatches`, which the manifest reports.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.encoders.encoded import Encoded, Way
from data_prep.encoders.reference import Reference
from data_prep.encoders.sentencepiece_lines import SentencePieceLines
from data_prep.tokenizer import load_json, size_of

__all__ = ["Encoded", "Encoder"]

VERIFIED_CHARACTERS = 1 << 16  # about, of each batch


class Encoder:
    """Encodes batches of texts (best of about 4 MB together). One a process."""

    def __init__(self, folder: Path) -> None:
        """`folder` is a tokenizer's as `data_prep.tokenizer.save` writes it; raises DataError."""
        tokenizer = load_json(folder / "tokenizer.json")
        vocab_size = size_of(tokenizer)
        self.reference = Reference(tokenizer, vocab_size)
        self.way: Way = (
            SentencePieceLines.made_for(folder / "tokenizer.model", vocab_size) or self.reference
        )
        self.num_mismatches = 0

    @property
    def method(self) -> str:
        """Name of the way in use."""
        return self.way.name

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids without special tokens; a text that spells one is text."""
        encoded = self.way.encode(texts)
        if self.way is self.reference or self.agrees(texts, encoded):
            return encoded
        self.num_mismatches += 1
        self.way = self.reference
        return self.way.encode(texts)

    def agrees(self, texts: Sequence[str], encoded: Encoded) -> bool:
        """True if the reference gives the same ids for some of the texts."""
        places = spread(texts, VERIFIED_CHARACTERS)
        expected = self.reference.encode([texts[place] for place in places])
        ends = np.cumsum(encoded.lengths)
        found = [encoded.tokens[ends[i] - encoded.lengths[i] : ends[i]] for i in places]
        return np.array_equal(expected.lengths, encoded.lengths[places]) and np.array_equal(
            expected.tokens, np.concatenate(found) if found else expected.tokens[:0]
        )


def spread(texts: Sequence[str], budget: int) -> list[int]:
    """Places of some texts, spread over all, with at most about `budget` characters together."""
    places, used = [], 0
    step = max(1, len(texts) // 64)
    for place in range(0, len(texts), step):
        if used and used + len(texts[place]) > budget:
            continue
        places.append(place)
        used += len(texts[place])
    return places
