"""The size of a vocabulary: a multiple of 64, which accelerators multiply fastest."""

import math

from tokenizers import AddedToken, Tokenizer


def fill(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Add tokens that no text spells, up to a multiple of 64 or to `vocab_size`."""
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    wanted = min(vocab_size, math.ceil(size / 64) * 64)
    tokenizer.add_special_tokens(
        [AddedToken(f"[unused{n}]", special=True, normalized=False) for n in range(wanted - size)]
    )
