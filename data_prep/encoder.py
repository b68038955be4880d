"""Texts to token ids, by the fastest way that gives the ids of tokenizer.json.

The way is chosen by what the tokenizer is (`data_prep/encoders/`). In every batch some texts are
encoded by the reference too. If one differs, the reference encodes the whole batch, which is
counted in `num_mismatches` and reported in the manifest. What a batch becomes depends on its texts
only, not on batches before it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.encoders.byte_level import ByteLevel
from data_prep.encoders.encoded import Encoded, Way
from data_prep.encoders.reference import Reference
from data_prep.encoders.sentencepiece_words import SentencePieceWords
from data_prep.encoders.wordpiece import WordPieceWords
from data_prep.tokenizer import reference

__all__ = ["Encoded", "Encoder"]

VERIFIED_CHARACTERS = 1 << 12  # about, of each batch
GROUP_CHARACTERS = 1 << 20  # encoded at a time: more is little faster and takes more memory


class Encoder:
    """Encodes batches of texts. It remembers words: keep it for all batches of a process."""

    def __init__(self, folder: Path) -> None:
        """`folder` is a tokenizer's as `data_prep.tokenizer.save` writes it; raises DataError."""
        path = folder / "tokenizer.json"
        tokenizer = reference(folder)
        description = json.loads(path.read_bytes())
        self.reference = Reference(tokenizer, vocab_size(description))
        self.way: Way = (
            WordPieceWords.made_for(self.reference, description)
            or SentencePieceWords.made_for(self.reference, description, folder / "tokenizer.model")
            or ByteLevel.made_for(self.reference, description)
            or self.reference
        )
        self.num_mismatches = 0  # batches

    @property
    def method(self) -> str:
        """Name of the way in use."""
        return self.way.name

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids without special tokens; a text that spells one is text. Best about 4 MB a call."""
        parts = [self.way.encode(group) for group in groups(texts)]
        encoded = Encoded(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )
        if self.way is self.reference or self.agrees(texts, encoded):
            return encoded
        self.num_mismatches += 1
        return self.reference.encode(texts)

    def agrees(self, texts: Sequence[str], encoded: Encoded) -> bool:
        """True if the reference gives the same ids for some texts, or, where there are only long
        ones, for the beginning of one."""
        places = spread(texts, VERIFIED_CHARACTERS)
        if not places:
            start = [text[:VERIFIED_CHARACTERS] for text in texts[:1]]
            return equal(self.way.encode(start), self.reference.encode(start))
        ends = np.cumsum(encoded.lengths)
        found = [encoded.tokens[ends[i] - encoded.lengths[i] : ends[i]] for i in places]
        sample = Encoded(np.concatenate(found), encoded.lengths[places])
        return equal(sample, self.reference.encode([texts[place] for place in places]))


def vocab_size(description: dict[str, Any]) -> int:
    """Ids are below this; as `data_prep.tokenizer.size_of`, from the file's contents."""
    vocabulary = description["model"]["vocab"]
    ids = vocabulary.values() if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    return 1 + int(max([*ids, *(token["id"] for token in description["added_tokens"])]))


def equal(first: Encoded, second: Encoded) -> bool:
    return np.array_equal(first.lengths, second.lengths) and np.array_equal(
        first.tokens, second.tokens
    )


def groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Consecutive texts of about GROUP_CHARACTERS together; one empty group if there are none."""
    start = size = 0
    for place, text in enumerate(texts):
        if size and size + len(text) > GROUP_CHARACTERS:
            yield texts[start:place]
            start, size = place, 0
        size += len(text)
    yield texts[start:]


def spread(texts: Sequence[str], budget: int) -> list[int]:
    """Places of some texts, spread over all, with at most `budget` characters together."""
    places, used = [], 0
    for place in range(0, len(texts), max(1, len(texts) // 64)):
        if used + len(texts[place]) <= budget:
            places.append(place)
            used += len(texts[place])
    return places
