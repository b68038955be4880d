"""SentencePiece models: what they hold, and the same tokenizer for the `tokenizers` library.

Unigram models that were trained here give equal ids in both by construction: their scores are
multiples of 2^-7 and stay near zero (`data_prep/training/sentencepiece.py`), so sums are exact in
SentencePiece's 32-bit floats as in the 64-bit floats of `tokenizers`, and both take the first of
equal sums. In a BPE model the rank of a merge is the score of the piece it makes. Text that spells
a special or a byte token is text: SentencePiece never matches those pieces; in `tokenizers` they
carry a score that always loses, or no merge makes them.
"""

from collections.abc import Iterator
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from runtime.errors import DataError

UNIGRAM, BPE = 1, 2  # model types
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # piece types
SCORE_STEP = 2.0**-7
NEVER = -1000.0  # a score that loses against any other way to spell the same characters
SPACE = "\u2581"
WORD = rf"\n|\t|{SPACE}+[^{SPACE}\n\t]*|[^{SPACE}\n\t]+"  # with the spaces before it


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
    kind = proto.trainer_spec.model_type
    if kind not in (UNIGRAM, BPE):
        raise DataError(
            "only unigram and BPE SentencePiece models can be converted here; give the folder of "
            "the same tokenizer with its tokenizer.json instead"
        )
    tokenizer = Tokenizer(unigram(proto) if kind == UNIGRAM else bpe(proto))
    tokenizer.normalizer = normalizer(proto.normalizer_spec)
    if all(stays_in_word(piece.piece) for piece in proto.pieces if piece.type == NORMAL):
        # No piece goes on after a word's end, so words can be cut and remembered apart.
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "isolated")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    special = [piece.piece for piece in proto.pieces if piece.type in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def unigram(proto: Any) -> models.Unigram:
    vocabulary = [
        (piece.piece, float(piece.score) if piece.type in (NORMAL, USER_DEFINED) else NEVER)
        for piece in proto.pieces
    ]
    return models.Unigram(vocabulary, unk_id=unknown_id(proto), byte_fallback=has_bytes(proto))


def bpe(proto: Any) -> models.BPE:
    ids = {piece.piece: id for id, piece in enumerate(proto.pieces)}
    return models.BPE(
        vocab=ids,
        merges=list(merges(proto)),
        unk_token=proto.pieces[unknown_id(proto)].piece,
        byte_fallback=has_bytes(proto),
        fuse_unk=not has_bytes(proto),
    )


def merges(proto: Any) -> Iterator[tuple[str, str]]:
    """Every pair of pieces that together are a piece, those of the highest score first."""
    learnt = [piece for piece in proto.pieces if piece.type == NORMAL]
    known = {piece.piece for piece in learnt}
    for piece in sorted(learnt, key=lambda piece: -piece.score):
        whole = piece.piece
        for end in range(1, len(whole)):
            if whole[:end] in known and whole[end:] in known:
                yield whole[:end], whole[end:]


def unknown_id(proto: Any) -> int:
    return next(id for id, piece in enumerate(proto.pieces) if piece.type == UNKNOWN)


def has_bytes(proto: Any) -> bool:
    return any(piece.type == BYTE for piece in proto.pieces)


def stays_in_word(piece: str) -> bool:
    """True if a piece is white space only, or has its spaces in front, and no newline within."""
    word = piece.lstrip(SPACE)
    is_single = len(piece) == 1
    return SPACE not in word and (is_single or not ("\n" in piece or "\t" in piece))


def is_exact(proto: Any) -> bool:
    """True if 32-bit sums of the model's scores are exact, as `exact_scores` makes them, and it
    leaves texts as they are."""
    spec = proto.normalizer_spec
    scores = [piece.score / SCORE_STEP for piece in proto.pieces if piece.type == NORMAL]
    return (
        not spec.precompiled_charsmap
        and not spec.remove_extra_whitespaces
        and all(score == round(score) for score in scores)
    )


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
