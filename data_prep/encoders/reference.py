"""The `tokenizers` library: what tokenizer.json means. It defines the ids; others are faster."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from data_prep.encoders.encoded import Encoded, from_lists, token_type


class Reference:
    """Encodes with a tokenizer as `data_prep.tokenizer.load_json` gives it."""

    name = "tokenizers"

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        self.dtype = token_type(vocab_size)

    def encode(self, texts: Sequence[str]) -> Encoded:
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return from_lists((item.ids for item in encoded), self.dtype)
