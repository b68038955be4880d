"""Train byte-level BPE: pieces of bytes, so no text is unknown. A space in front of each text."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from data_prep.training.sentencepiece import SPECIAL
from data_prep.training.vocabulary import fill
from runtime.errors import DataError


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Ids: the five special tokens, 256 bytes, then pieces; a multiple of 64, fewer than asked if
    the text is too small. Raises DataError if nothing can be learnt from the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() <= len(SPECIAL) + len(alphabet):
        raise DataError(
            "byte-level BPE cannot train on this text (no two characters occur twice side by "
            "side); give more text, or an existing tokenizer by tokenizer.path"
        )
    fill(tokenizer, vocab_size)
    return tokenizer
