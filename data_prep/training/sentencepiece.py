"""Train a SentencePiece model, unigram or BPE.

Training reads pieces of lines of raw text: identity normalisation (cleaning is done before), a
space in front of each text, bytes for characters outside the vocabulary, white space kept as it is.
Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, newline 5, tab 6, then 256 bytes, then pieces.

The scores of a unigram model are then rounded to multiples of 2^-7 and shifted by a constant per
character (the same for every way to cut a text, so the best cut stays the best), which keeps sums
near zero and exact: see `data_prep/sentencepiece_model.py`.
"""

import io
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import sentencepiece

from data_prep.sentencepiece_model import CONTROL, NORMAL, SCORE_STEP, UNIGRAM, USER_DEFINED, parsed
from runtime.errors import DataError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NUM_THREADS = 2  # of the trainer: its result depends on the number, so the machine may not choose
PIECE_CHARACTERS = 1000  # longer lines are cut for training


def train(
    texts: Iterable[str],
    vocab_size: int,
    character_coverage: float,
    kind: Literal["unigram", "bpe"],
) -> bytes:
    """A trained model as its file's bytes; fewer pieces than asked if the text is too small, but
    always a multiple of 64. Raises DataError if nothing can be learnt from the text."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=training_pieces(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=character_coverage,
            required_chars="".join(map(chr, range(33, 127))),
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            normalization_rule_name="identity",
            max_sentence_length=8 * PIECE_CHARACTERS,
            pad_id=0, pad_piece=SPECIAL[0], unk_id=1, unk_piece=SPECIAL[1],
            bos_id=2, bos_piece=SPECIAL[2], eos_id=3, eos_piece=SPECIAL[3],
            control_symbols=[SPECIAL[4]],
            user_defined_symbols=["\n", "\t"],
            num_threads=NUM_THREADS,
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise DataError(
            f"SentencePiece cannot train on this text ({str(error).splitlines()[0]}); give more "
            "text, a smaller tokenizer.vocab_size, or an existing tokenizer by tokenizer.path"
        ) from None
    return finished(model.getvalue(), vocab_size)


def training_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Lines, and long lines in pieces."""
    for text in texts:
        for line in text.split("\n"):
            for start in range(0, len(line), PIECE_CHARACTERS):
                yield line[start : start + PIECE_CHARACTERS]


def finished(model: bytes, vocab_size: int) -> bytes:
    """Give white space ordinary pieces and a unigram model exact scores; fill up to a multiple of
    64 with pieces that no text spells."""
    proto = parsed(model)
    learnt = [piece for piece in proto.pieces if piece.type == NORMAL]
    lowest = min((piece.score for piece in learnt), default=0.0)
    for piece in proto.pieces:
        if piece.type == USER_DEFINED:
            piece.type, piece.score = NORMAL, lowest  # no other piece holds it: it always matches
    if proto.trainer_spec.model_type == UNIGRAM:
        make_exact(proto, learnt)
    wanted = min(vocab_size, math.ceil(len(proto.pieces) / 64) * 64)
    for number in range(wanted - len(proto.pieces)):
        proto.pieces.add(piece=f"[unused{number}]", score=0.0, type=CONTROL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    return bytes(proto.SerializeToString())


def make_exact(proto: Any, learnt: list[Any]) -> None:
    """Round and shift the scores as the module's docstring says."""
    weight = [math.exp(piece.score) for piece in learnt]
    information = -sum(w * piece.score for w, piece in zip(weight, learnt, strict=True))
    characters = sum(w * len(piece.piece) for w, piece in zip(weight, learnt, strict=True))
    per_character = information / characters if characters else 0.0
    for piece in proto.pieces:
        if piece.type == NORMAL:
            shifted = piece.score + per_character * len(piece.piece)
            piece.score = round(shifted / SCORE_STEP) * SCORE_STEP
