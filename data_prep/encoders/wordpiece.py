"""WordPiece as BERT does it, by a dictionary of the words between white space and punctuation.

Texts are cut at characters that the reference separates whatever stands beside them: white space,
and characters that become words of their own (punctuation, ideographs). Between those, words are
kept as they are (but for ASCII letters in lower case where the tokenizer lowers), so everything
the reference does to a word (accents, control characters) it does itself, once for each word.
What a character is, the reference is asked when the character is first met. Texts with characters
that fit none of the kinds are encoded by the reference.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, pre_tokenizers

from data_prep.encoders.encoded import Encoded, as_one, in_pieces
from data_prep.encoders.reference import Reference
from data_prep.encoders.word_dictionary import (
    WordDictionary,
    characters_beyond_ascii,
    cut,
    interleave,
    per_text,
)

WORD, SPACE, ALONE, INNER, OTHER, UNASKED = range(6)  # INNER: second and later bytes of ALONE
IS_START = bytes(
    kind == ALONE or (kind == WORD and before != WORD) for before in range(4) for kind in range(4)
).ljust(256)
IS_END = bytes(
    (before == WORD and kind != WORD) or (before in (ALONE, INNER) and kind != INNER)
    for before in range(4)
    for kind in range(4)
).ljust(256)
WORDS_A_CALL = 1 << 10
PIECE_BYTES = 1 << 20  # of a long text encoded at a time


class WordPieceWords:
    """Encodes by words, each encoded once."""

    name = "words"

    def __init__(self, reference: Reference, description: dict[str, Any]) -> None:
        self.reference = reference
        self.kinds = CharacterKinds(reference.tokenizer)
        ascii_kinds = self.kinds.of(np.arange(128)).tolist()
        self.byte_kinds = bytes(ascii_kinds) + bytes([WORD]) * 128
        self.spaces = bytes(code for code in range(128) if ascii_kinds[code] == SPACE)
        self.lower = bytes(range(256)).lower() if description["normalizer"]["lowercase"] else None
        model = description["model"]
        prefix, longest = model["continuing_subword_prefix"], model["max_input_chars_per_word"]
        self.is_first = np.ones(max(model["vocab"].values()) + 1, bool)
        self.is_first[[id for token, id in model["vocab"].items() if token.startswith(prefix)]] = 0
        special = {token["content"] for token in description["added_tokens"]}
        given = {
            token.encode(): id
            for token, id in model["vocab"].items()
            if is_plain(token) and len(token) <= longest and token not in special
        }
        plain = Tokenizer(reference.tokenizer.model)  # of words that need no normalisation
        plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        plain.encode_special_tokens = True
        self.plain = Reference(plain, len(self.is_first))
        self.words = WordDictionary(self.encode_words, reference.dtype, given)

    @classmethod
    def made_for(cls, reference: Reference, description: dict[str, Any]) -> Self | None:
        """None if the tokenizer is not a WordPiece one that treats texts as BERT does."""
        kinds = [
            (description.get(part) or {}).get("type")
            for part in ("normalizer", "pre_tokenizer", "model")
        ]
        if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"]:
            return None
        if not all(token["special"] for token in description["added_tokens"]):
            return None
        way = cls(reference, description)
        fits = all(way.byte_kinds[code] in (WORD, SPACE, ALONE) for code in range(128))
        return way if fits and way.byte_kinds[ord("\n")] == SPACE else None

    def encode(self, texts: Sequence[str]) -> Encoded:
        if len(texts) == 1 and len(texts[0]) > PIECE_BYTES:
            pieces = in_pieces(texts[0].encode(), PIECE_BYTES)
            if len(pieces) > 1:
                return as_one([self.encode([piece.decode()]) for piece in pieces])
        documents = [text.encode() for text in texts]
        data = b"\n".join([*documents, b""])
        sizes = np.fromiter(map(len, documents), np.int64, len(documents)) + 1
        kinds = np.full(len(data) + 1, SPACE, np.uint8)  # one more in front
        kinds[1:] = np.frombuffer(data.translate(self.byte_kinds), np.uint8)
        if not data.isascii():
            places, widths, codes = characters_beyond_ascii(np.frombuffer(data, np.uint8))
            found = self.kinds.of(codes)
            if (found == OTHER).any():
                ends = np.cumsum(sizes)
                is_other = np.zeros(len(texts), bool)
                is_other[np.searchsorted(ends, places[found == OTHER], side="right")] = True
                return self.encode_apart(texts, is_other)
            data = mark(data, kinds, places, widths, found)
        pairs = (kinds[:-1] << 2 | kinds[1:]).tobytes()
        starts = np.flatnonzero(np.frombuffer(pairs.translate(IS_START), bool))
        ends = np.flatnonzero(np.frombuffer(pairs.translate(IS_END), bool))
        offsets = np.zeros(len(starts) + 1, np.int32)
        np.cumsum(ends - starts, out=offsets[1:])
        first_words = np.searchsorted(starts, np.cumsum(sizes) - sizes)
        encoded = self.words.ids(data.translate(self.lower, self.spaces), offsets)
        return per_text(encoded, first_words)

    def encode_apart(self, texts: Sequence[str], is_other: NDArray[np.bool_]) -> Encoded:
        """The reference encodes some of the texts."""
        others = [text for text, other in zip(texts, is_other, strict=True) if other]
        plain = [text for text, other in zip(texts, is_other, strict=True) if not other]
        return interleave(self.encode(plain), self.reference.encode(others), ~is_other)

    def encode_words(self, words: list[bytes]) -> Encoded:
        """ASCII words many a text, cut where a token continues no word; others one by one."""
        texts = [word.decode() for word in words]
        is_joined = np.fromiter(map(is_plain, texts), bool, len(texts))
        plain = [text for text, joined in zip(texts, is_joined, strict=True) if joined]
        others = [text for text, joined in zip(texts, is_joined, strict=True) if not joined]
        groups = [
            " ".join(plain[start : start + WORDS_A_CALL])
            for start in range(0, len(plain), WORDS_A_CALL)
        ]
        encoded = self.plain.encode(groups)
        parts = cut(encoded, self.is_first[encoded.tokens], len(plain))
        if parts is None:
            parts = self.reference.encode(plain)
        return interleave(parts, self.reference.encode(others), is_joined)


def is_plain(word: str) -> bool:
    return word.isascii() and word.isalnum()


def mark(
    data: bytes,
    kinds: NDArray[np.uint8],
    places: NDArray[np.int64],
    widths: NDArray[np.int64],
    found: NDArray[np.uint8],
) -> bytes:
    """Enter the kinds of characters beyond ASCII; return the text with plain spaces for others."""
    changed = np.frombuffer(bytearray(data), np.uint8)
    for kind, later in ((ALONE, INNER), (SPACE, SPACE)):
        chosen = np.flatnonzero(found == kind)
        at, width = places[chosen], widths[chosen]
        for number in range(4):
            inside = at[width > number] + number
            kinds[inside + 1] = later if number else kind
            if kind == SPACE:
                changed[inside] = ord(" ")
    return changed.tobytes()


class CharacterKinds:
    """What the reference does at each character, asked once for each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.table = np.full(0x110000, UNASKED, np.uint8)

    def of(self, codes: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = self.table[codes]
        new = codes[found == UNASKED]
        if len(new):
            for code in np.unique(new).tolist():
                self.table[code] = self.ask(chr(code))
            found = self.table[codes]
        return found

    def ask(self, character: str) -> int:
        """The kind of a character, from what becomes of it between two letters."""
        if unicodedata.combining(character) and unicodedata.category(character) != "Mn":
            return OTHER  # can change places with marks that are removed
        assert self.tokenizer.normalizer is not None
        assert self.tokenizer.pre_tokenizer is not None
        text = self.tokenizer.normalizer.normalize_str(f"a{character}a")
        words = [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        if len(words) == 1:
            return WORD
        if words == ["a", "a"]:
            return SPACE
        return ALONE if words[0] == words[-1] == "a" else OTHER
