"""Word bounds: for each kind of tokenizer, the words that a person sees in a text."""

import json
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer

from data_prep import sentencepiece_model
from data_prep.training import byte_level, sentencepiece, wordpiece
from data_prep.word_starts import word_bounds

TEXT = "Tumour necrosis-factor isn't (yet) known, 肿瘤坏死。 ก็ได้ Übermäßig\n"
SAMPLE = ["tumour necrosis factor known unknown factors yet over and under", "a b c"] * 4


def trained_wordpiece() -> Tokenizer:
    return wordpiece.train(lambda: [TEXT, *SAMPLE], 448, 1.0, False)


def trained_unigram() -> Tokenizer:
    return sentencepiece_model.to_tokenizer(sentencepiece.train(SAMPLE, 448, 0.9995, "unigram"))


def trained_bpe() -> Tokenizer:
    return sentencepiece_model.to_tokenizer(sentencepiece.train(SAMPLE, 448, 0.9995, "bpe"))


def trained_byte_bpe() -> Tokenizer:
    return byte_level.train(SAMPLE, 448)


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The text cut where the bounds say."""
    description = json.loads(tokenizer.to_str())
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    bounds = word_bounds(description, size)
    encoded = tokenizer.encode(text, add_special_tokens=False)
    ids = np.array(encoded.ids)
    begins = bounds.begins[ids]
    begins[1:] |= bounds.ends[ids[:-1]]
    begins[0] = True
    cuts = np.append(np.flatnonzero(begins), len(ids)).tolist()
    found = [tokenizer.decode(ids[start:end].tolist()) for start, end in pairwise(cuts)]
    return [word.replace(" ", "") for word in found if word.strip()]


@pytest.mark.parametrize(
    "train", [trained_wordpiece, trained_unigram, trained_bpe, trained_byte_bpe]
)
def test_words_are_those_a_person_sees(train: Callable[[], Tokenizer]) -> None:
    tokenizer = train()
    found = words(tokenizer, TEXT)
    assert found[:13] == [
        "Tumour", "necrosis", "-", "factor", "isn", "'", "t", "(", "yet", ")", "known", ",", "肿",
    ]  # fmt: skip
    assert [*"肿瘤坏死。"] == found[12:17]
    assert found[-1] == "Übermäßig"


def test_a_piece_of_an_unspaced_script_is_a_word() -> None:
    vocabulary = ["<unk>", "▁", "▁東", "京都", "大学", "の", "▁is", "land", "2", "0"]
    model = {"type": "Unigram", "vocab": [[piece, 0.0] for piece in vocabulary]}
    bounds = word_bounds({"model": model, "added_tokens": []}, len(vocabulary))
    begins = dict(zip(vocabulary, bounds.begins, strict=True))
    assert begins["京都"]
    assert begins["の"]
    assert begins["▁"]
    assert not bounds.ends[1]  # the piece after the mark alone is of the same word
    assert bounds.ends[2]  # and after an ideograph another word begins, whatever the piece
    assert not begins["land"]
    assert not begins["0"]


def test_suffixes_and_added_tokens_end_words() -> None:
    model = {
        "type": "BPE",
        "vocab": {"lo": 0, "w</w>": 1, "er</w>": 2},
        "end_of_word_suffix": "</w>",
    }
    bounds = word_bounds({"model": model, "added_tokens": [{"id": 3, "content": "DRUG"}]}, 4)
    assert bounds.ends.tolist() == [False, True, True, True]
    assert bounds.begins.tolist() == [False, False, False, True]
