"""Train a SentencePiece unigram model; turn such a model into a `tokenizers` one of equal ids.

Training reads pieces of lines of raw text: identity normalisation (cleaning is done before), a
space in front of each text, bytes for characters outside the vocabulary, white space kept as it is.
Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, newline 5, tab 6, then 256 bytes, then pieces.

Equal ids are made certain rather than hoped for. Scores are stored as multiples of 2^-7, shifted by
a constant per character (the same for every way to cut a text, so the best cut stays the best).
Sums then stay near zero and are exact in SentencePiece's 32-bit floats as in the 64-bit floats of
`tokenizers`; both take the first of equal sums. Text that spells a special or a byte token is text:
SentencePiece never matches those pieces, and in `tokenizers` they carry a score that always loses.
"""

import io
import math
from collections.abc import Iterable, Iterator
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from runtime.errors import DataError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SCORE_STEP = 2.0**-7
NEVER = -1000.0  # a score that loses against any other way to spell the same characters
NUM_THREADS = 2  # of the trainer: its result depends on the number, so the machine may not choose
PIECE_CHARACTERS = 1000  # longer lines are cut for training
SPACE = "\u2581"


def train(texts: Iterable[str], vocab_size: int, character_coverage: float) -> bytes:
    """A trained model as its file's bytes; fewer pieces than asked if the text is too small, but
    always a multiple of 64. Raises DataError if nothing can be learnt from the text."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=training_pieces(texts),
            model_writer=model,
            model_type="unigram",
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
    return exact_scores(model.getvalue(), vocab_size)


def training_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Lines, and long lines in pieces."""
    for text in texts:
        for line in text.split("\n"):
            for start in range(0, len(line), PIECE_CHARACTERS):
                yield line[start : start + PIECE_CHARACTERS]


def exact_scores(model: bytes, vocab_size: int) -> bytes:
    """Round and shift the scores as the module's docstring says, and fill up to a multiple of
    64 with pieces that no text spells."""
    proto = parsed(model)
    learnt = [piece for piece in proto.pieces if piece.type == NORMAL]
    weight = [math.exp(piece.score) for piece in learnt]
    information = -sum(w * piece.score for w, piece in zip(weight, learnt, strict=True))
    characters = sum(w * len(piece.piece) for w, piece in zip(weight, learnt, strict=True))
    per_character = information / characters if characters else 0.0
    lowest = min((piece.score for piece in learnt), default=0.0)
    for piece in proto.pieces:
        if piece.type == USER_DEFINED:
            piece.type, piece.score = NORMAL, lowest  # no other piece holds it: it always matches
        if piece.type == NORMAL:
            shifted = piece.score + per_character * len(piece.piece)
            piece.score = round(shifted / SCORE_STEP) * SCORE_STEP
    wanted = min(vocab_size, math.ceil(len(proto.pieces) / 64) * 64)
    for number in range(wanted - len(proto.pieces)):
        proto.pieces.add(piece=f"[unused{number}]", score=0.0, type=CONTROL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    return bytes(proto.SerializeToString())


def parsed(model: bytes) -> Any:
    """The contents of a .model file. Raises DataError if it is not one."""
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(model)
    except Exception as error:  # protobuf's exception class depends on its back end
        raise DataError(f"not a SentencePiece model ({error})") from None
    if not proto.pieces:
        raise DataError("not a SentencePiece model (it has no pieces)")
    return proto


def to_tokenizer(model: bytes) -> Tokenizer:
    """The same tokenizer for the `tokenizers` library, without special tokens around texts."""
    proto = parsed(model)
    if proto.trainer_spec.model_type != 1:
        raise DataError(
            "only unigram SentencePiece models can be converted here; give the folder of the "
            "same tokenizer with its tokenizer.json instead"
        )
    kinds = {piece.type for piece in proto.pieces}
    vocabulary = [
        (piece.piece, float(piece.score) if piece.type in (NORMAL, USER_DEFINED) else NEVER)
        for piece in proto.pieces
    ]
    unknown = next(i for i, piece in enumerate(proto.pieces) if piece.type == UNKNOWN)
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=BYTE in kinds))
    tokenizer.normalizer = normalizer(proto.normalizer_spec)
    if all(stays_in_word(piece.piece) for piece in proto.pieces if piece.type == NORMAL):
        # No piece goes on after a word's end, so words can be cut and remembered apart.
        words = Regex(rf"\n|\t|{SPACE}+[^{SPACE}\n\t]*|[^{SPACE}\n\t]+")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(words, "isolated")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    special = [piece.piece for piece in proto.pieces if piece.type in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def stays_in_word(piece: str) -> bool:
    """True if a piece is white space only, or has its spaces in front, and no newline within."""
    word = piece.lstrip(SPACE)
    is_single = len(piece) == 1
    return SPACE not in word and (is_single or not ("\n" in piece or "\t" in piece))


def normalizer(spec: Any) -> Any:
    """What SentencePiece does to a text before it looks for pieces."""
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps)
