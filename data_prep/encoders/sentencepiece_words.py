"""SentencePiece by a dictionary of stretches of text that no piece of the vocabulary crosses.

Two neighbouring characters that no piece holds side by side always go to different tokens, so a
text can be cut there: a unigram model adds up the scores on either side apart, and a BPE model
merges nothing across. Which neighbours may share a piece is read from the vocabulary: for ASCII by
kinds of characters, beyond it by pairs of characters. Stretches are words with the spaces before
them in most scripts, and a few characters in Chinese.

New stretches are encoded as the lines of one text, newline being a token of its own: a trained
unigram model by SentencePiece (`data_prep/sentencepiece_model.py` says why the ids are equal),
others by the reference.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from data_prep import sentencepiece_model
from data_prep.encoders.encoded import Encoded, as_one, in_pieces
from data_prep.encoders.reference import Reference
from data_prep.encoders.word_dictionary import (
    WordDictionary,
    characters_beyond_ascii,
    interleave,
    per_text,
)

PIECE_BYTES = 1 << 20  # of a long text encoded at a time
BYTES_A_CALL = 1 << 12  # so few that 32-bit sums of scores are exact
PAIR_BITS = 20
LEAD, LATER = 8, 9  # kinds of bytes beyond ASCII; those of ASCII are below

NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": sentencepiece_model.SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": sentencepiece_model.SPACE},
    ],
}
PRE_TOKENIZER = {
    "type": "Split",
    "pattern": {"Regex": sentencepiece_model.WORD},
    "behavior": "Isolated",
    "invert": False,
}
EncodeLines = Callable[[str], NDArray[Any]]


class SentencePieceWords:
    """Encodes by stretches, each encoded once."""

    name = "words"

    def __init__(
        self, reference: Reference, pieces: Iterable[str], newline: int, lines: EncodeLines | None
    ) -> None:
        """`lines` gives the ids of a text that gets no space in front; None: the reference does."""
        texts = [piece.replace(sentencepiece_model.SPACE, " ").encode() for piece in pieces]
        self.reference = reference
        self.newline = newline
        self.lines = lines or self.reference_lines
        self.is_cut = kind_cuts(texts)
        self.may_join = pair_table(texts)
        self.words = WordDictionary(self.encode_words, reference.dtype, {b"\n": newline})

    @classmethod
    def made_for(
        cls, reference: Reference, description: dict[str, Any], model: Path
    ) -> Self | None:
        """None if texts are changed before pieces are looked for, or newline is in a piece with
        others, or unknown characters are not spelt in bytes."""
        kind = description["model"].get("type")
        if kind not in ("Unigram", "BPE") or not leaves_text(description):
            return None
        vocabulary = description["model"]["vocab"]
        if kind == "Unigram":
            vocabulary = {piece: id for id, (piece, _) in enumerate(vocabulary)}
        in_bytes = {f"<0x{byte:02X}>" for byte in range(256)}
        special = {token["content"] for token in description["added_tokens"]}
        pieces = sorted(set(vocabulary) - in_bytes - special)
        if [piece for piece in pieces if "\n" in piece] != ["\n"] or in_bytes - set(vocabulary):
            return None
        lines = exact_lines(model) if kind == "Unigram" else None
        return cls(reference, pieces, vocabulary["\n"], lines)

    def encode(self, texts: Sequence[str]) -> Encoded:
        if any(sentencepiece_model.SPACE in text for text in texts):
            return self.encode_apart(texts)
        documents = [b" " + text.encode() if text else b"" for text in texts]
        if len(documents) == 1 and len(documents[0]) > PIECE_BYTES:
            pieces = in_pieces(documents[0], PIECE_BYTES)
            return as_one([self.encode_stretches([piece]) for piece in pieces])
        return self.encode_stretches(documents)

    def encode_stretches(self, documents: list[bytes]) -> Encoded:
        """Texts with the space in front of them, or parts of one that begin with a newline."""
        data = b"".join([*documents, b"\n"])
        kinds = np.full(len(data) + 1, LATER, np.uint8)  # one more in front
        kinds[1:] = np.frombuffer(data.translate(BYTE_KINDS), np.uint8)
        pairs = (kinds[:-1] << 4 | kinds[1:]).tobytes()
        is_start = np.frombuffer(bytearray(pairs.translate(self.is_cut)), bool)
        if not data.isascii():
            places, widths, codes = characters_beyond_ascii(np.frombuffer(data, np.uint8))
            follows = np.flatnonzero(places[1:] == places[:-1] + widths[:-1])
            hashes = pair_hash(codes[follows], codes[follows + 1])
            is_start[places[follows + 1]] = ~self.may_join[hashes]
        sizes = np.fromiter(map(len, documents), np.int64, len(documents))
        first_bytes = np.cumsum(sizes) - sizes
        is_start[first_bytes] = True
        is_start[-1] = True  # the newline behind all texts, where the last word ends
        starts = np.flatnonzero(is_start)
        encoded = self.words.ids(data, starts.astype(np.int32))
        return per_text(encoded, np.searchsorted(starts, first_bytes))

    def encode_apart(self, texts: Sequence[str]) -> Encoded:
        """The reference encodes texts that hold the character that stands for a space."""
        is_plain = np.array([sentencepiece_model.SPACE not in text for text in texts], bool)
        plain = [text for text in texts if sentencepiece_model.SPACE not in text]
        others = [text for text in texts if sentencepiece_model.SPACE in text]
        return interleave(self.encode(plain), self.reference.encode(others), is_plain)

    def encode_words(self, words: list[bytes]) -> Encoded:
        """Stretches without newlines, as lines of texts of about BYTES_A_CALL bytes."""
        parts = [self.encode_lines(group) for group in groups(words)]
        return Encoded(
            np.concatenate([part.tokens for part in parts]).astype(self.reference.dtype),
            np.concatenate([part.lengths for part in parts]),
        )

    def encode_lines(self, lines: list[bytes]) -> Encoded:
        is_long = len(lines) == 1 and len(lines[0]) > BYTES_A_CALL
        encode = self.reference_lines if is_long else self.lines
        ids = encode(b"\n".join(lines).decode())
        ends = np.flatnonzero(ids == self.newline)
        assert len(ends) == len(lines) - 1, "newline is not a token of its own"
        lengths = np.diff(np.concatenate([[-1], ends, [len(ids)]])) - 1
        return Encoded(ids[ids != self.newline], lengths)

    def reference_lines(self, text: str) -> NDArray[Any]:
        """Ids of a text without the space that the reference puts in front."""
        ids = self.reference.encode([f"\n{text}"]).tokens
        return ids[np.flatnonzero(ids == self.newline)[0] + 1 :]


def leaves_text(description: dict[str, Any]) -> bool:
    """True if a tokenizer puts a space in front, marks spaces and does nothing else to a text."""
    return (
        description["normalizer"] == NORMALIZER
        and description["pre_tokenizer"] in (None, PRE_TOKENIZER)
        and all(token["special"] for token in description["added_tokens"])
        and bool(description["model"].get("byte_fallback"))
        and not description["model"].get("dropout")
    )


def exact_lines(path: Path) -> EncodeLines | None:
    """SentencePiece for a model whose scores it sums up without error; None if it is not one."""
    if not path.is_file():
        return None
    proto = sentencepiece_model.parsed(path.read_bytes())
    if not sentencepiece_model.is_exact(proto):
        return None
    proto.normalizer_spec.add_dummy_prefix = False
    model = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return lambda text: np.array(model.encode(text), np.int64)


def groups(words: list[bytes]) -> Iterator[list[bytes]]:
    """Words in groups of about BYTES_A_CALL; a longer word is a group of its own."""
    group: list[bytes] = []
    size = 0
    for word in words:
        if group and size + len(word) > BYTES_A_CALL:
            yield group
            group, size = [], 0
        group.append(word)
        size += len(word) + 1
    if group:
        yield group


def byte_kind(byte: int) -> int:
    """The kind of a byte of UTF-8: bytes of a kind share their pieces' boundaries."""
    if byte >= 0x80:
        return LATER if byte < 0xC0 else LEAD
    tests = (
        str.islower, str.isupper, str.isdigit, " ".__eq__, "\n".__eq__, "\t".__eq__,
        str.isprintable,
    )  # fmt: skip
    character = chr(byte)
    return next((kind for kind, test in enumerate(tests) if test(character)), len(tests))


BYTE_KINDS = bytes(map(byte_kind, range(256)))


def kind_cuts(pieces: Iterable[bytes]) -> bytes:
    """(256,) 1 for a pair of kinds, the first times 16, that stand side by side in no piece."""
    is_cut = np.ones((16, 16), np.uint8)
    kinds = np.frombuffer(b"\n".join(pieces).translate(BYTE_KINDS), np.uint8)
    newline = BYTE_KINDS[ord("\n")]
    joined = (kinds[:-1] != newline) & (kinds[1:] != newline)
    is_cut[kinds[:-1][joined], kinds[1:][joined]] = 0
    is_cut[:, LATER] = 0
    return is_cut.tobytes()


def pair_hash(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return (first * 0x9E3779B1 + second) * 0x85EBCA77 >> 16 & (1 << PAIR_BITS) - 1


def pair_table(pieces: Iterable[bytes]) -> NDArray[np.bool_]:
    """True at the hash of each pair of characters beyond ASCII that some piece holds. Another pair
    of the same hash is kept together needlessly, which changes no ids."""
    table = np.zeros(1 << PAIR_BITS, bool)
    data = np.frombuffer(b"\n".join([*pieces, b""]), np.uint8)
    places, widths, codes = characters_beyond_ascii(data)
    follows = np.flatnonzero(places[1:] == places[:-1] + widths[:-1])
    table[pair_hash(codes[follows], codes[follows + 1])] = True
    return table
