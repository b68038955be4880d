"""Train WordPiece as BERT has it: words cut at white space and punctuation, ideographs apart.

Characters outside the coverage make a word [UNK]. The library's trainer takes words in the order
of a hash table that differs from run to run and numbers the pieces in that order; so every
character, at a word's start and inside, is given to it beforehand, in order of code points.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from data_prep.training.sentencepiece import SPECIAL
from data_prep.training.vocabulary import fill
from runtime.errors import DataError

INSIDE = "##"  # in front of pieces that do not begin a word


def train(
    sample: Callable[[], Iterable[str]], vocab_size: int, character_coverage: float, lowercase: bool
) -> Tokenizer:
    """Ids: the five special tokens, characters, then pieces; a multiple of 64, fewer than asked if
    the text is too small. Reads the sample twice. Raises DataError if nothing can be learnt."""
    tokenizer = Tokenizer(models.WordPiece({}, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=INSIDE)
    first, inside = alphabet(tokenizer, sample(), character_coverage)
    fixed = [*SPECIAL, *first, *(INSIDE + character for character in inside)]
    if not first or len(fixed) > vocab_size:
        raise DataError(
            f"WordPiece cannot train on this text: it has {len(first):,} characters that begin "
            f"words and {len(inside):,} inside words, tokenizer.vocab_size is {vocab_size:,}; give "
            "more text or a larger vocab_size, or lower tokenizer.character_coverage"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=fixed,
        initial_alphabet=first,
        limit_alphabet=len(first),
        continuing_subword_prefix=INSIDE,
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece({}, unk_token=SPECIAL[1]))
    learner.normalizer, learner.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    learner.train_from_iterator(sample(), trainer)
    vocabulary = learner.get_vocab(with_added_tokens=True)
    tokenizer.model = models.WordPiece(vocabulary, unk_token=SPECIAL[1])
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    fill(tokenizer, vocab_size)
    return tokenizer


def alphabet(
    tokenizer: Tokenizer, texts: Iterable[str], coverage: float
) -> tuple[list[str], list[str]]:
    """The most frequent characters, as the tokenizer changes them, that make up this share of the
    text; and those of them that can stand inside a word. Both in order of code points."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    assert normalizer is not None
    assert pre_tokenizer is not None
    changed: Counter[str] = Counter()
    inside: set[str] = set()
    for character, count in counts.items():
        words = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(f"a{character}a"))
        for found in {*"".join(word for word, _ in words)[1:-1]}:
            changed[found] += count
            if len(words) == 1:
                inside.add(found)
    wanted, covered, kept = coverage * changed.total(), 0, []
    for character, count in sorted(changed.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            break
        kept.append(character)
        covered += count
    return sorted(kept), sorted(inside.intersection(kept))
