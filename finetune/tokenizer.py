"""Text to token ids for fine-tuned models, without torch.

Wraps a `tokenizers.Tokenizer` so that nothing is lost or invented: truncation and padding stored
in tokenizer.json are cleared (some models cut at 128 tokens there), text that spells a special
token stays text, and the special tokens around one text or a pair are read off the tokenizer once
instead of being guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend

from runtime.errors import DataError

BATCH = 1000  # texts tokenised at a time: encodings take about 100 bytes a character
PROBE = "a"


@dataclass(frozen=True)
class Template:
    """The special tokens around the texts of one input, and the token type of each part."""

    specials: tuple[tuple[int, ...], ...]  # before the first text, after it (after the second)
    text_types: tuple[int, ...]
    special_types: tuple[tuple[int, ...], ...]

    @property
    def num_special(self) -> int:
        return sum(map(len, self.specials))

    def without_types(self) -> "Template":
        """The same special tokens, and type 0 everywhere."""
        special_types = tuple((0,) * len(part) for part in self.specials)
        return Template(self.specials, (0,) * len(self.text_types), special_types)

    def build(self, *texts: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
        """Input ids, token types, and the position of the first text's first token."""
        ids: list[Any] = [self.specials[0]]
        types: list[Any] = [self.special_types[0]]
        for i, text in enumerate(texts):
            ids += [text, self.specials[i + 1]]
            types += [[self.text_types[i]] * len(text), self.special_types[i + 1]]
        return (
            np.concatenate(ids).astype(np.int32),
            np.concatenate(types).astype(np.int32),
            len(self.specials[0]),
        )


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text, without special ones."""

    ids: NDArray[np.int32]  # (N,)
    offsets: NDArray[np.int64]  # (N, 2) characters of the text


class Tokenizer:
    """One tokenizer, its padding id and its templates for one text and for pairs."""

    def __init__(
        self,
        backend: Backend,
        pad_id: int,
        cls_id: int | None,
        sep_id: int | None,
        has_types: bool = True,
    ):
        """`has_types`: the model tells the texts of a pair apart by token types."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self.backend = backend
        self.pad_id = pad_id
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        self.single = self._template(1, cls_id, sep_id)
        pair = self._template(2, cls_id, sep_id)
        self.pair = pair if has_types else pair.without_types()

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts without special tokens."""
        found: list[Tokens] = []
        for start in range(0, len(texts), BATCH):
            encodings = self.backend.encode_batch(
                list(texts[start : start + BATCH]), add_special_tokens=False
            )
            for encoding in encodings:
                offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
                found.append(Tokens(np.array(encoding.ids, dtype=np.int32), offsets))
        return found

    def _template(self, num_texts: int, cls_id: int | None, sep_id: int | None) -> Template:
        """Read the special tokens off an encoded probe; [CLS] text [SEP] if it adds none."""
        encoding = self.backend.encode(PROBE, PROBE if num_texts == 2 else None)
        specials: list[list[int]] = [[]]
        special_types: list[list[int]] = [[]]
        text_types: list[int] = []
        sequences = encoding.sequence_ids
        for token, kind, sequence in zip(encoding.ids, encoding.type_ids, sequences, strict=True):
            if sequence is None:
                specials[-1].append(token)
                special_types[-1].append(kind)
            elif sequence == len(text_types):
                text_types.append(kind)
                specials.append([])
                special_types.append([])
        if len(text_types) != num_texts:
            raise DataError(
                f"the tokenizer gives no token for {PROBE!r}; it cannot be used for fine-tuning"
            )
        if not any(specials):
            if cls_id is None or sep_id is None:
                raise DataError(
                    "the tokenizer adds no special tokens and names no [CLS] and [SEP]; "
                    "use the tokenizer folder that data_prep wrote"
                )
            specials = [[cls_id], *([sep_id] for _ in range(num_texts))]
            special_types = [[0], *([i] for i in range(num_texts))]
            text_types = list(range(num_texts))
        return Template(
            tuple(map(tuple, specials)), tuple(text_types), tuple(map(tuple, special_types))
        )
