"""Words drawn by a masked language model: the pretrain stage's export, or any with that head.

A row's words become runs of tokens, one run a word, so that a word can be masked and filled in
without touching its neighbours. Two kinds of tokens are ever drawn for a masked place: whole words
(`whole`), which the tokenizer reads back as that one token, and pieces of the kind that stood there
(`pieces`): a beginning for a beginning, a continuation for a continuation. Special tokens,
punctuation and parts of characters are never drawn, and a character of a script without spaces only
for another one.

Models run on the CPU with one thread and one row at a time: what is drawn depends on the row and
its random numbers, not on cores or on the rows beside it.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import local_models, word_starts
from data_prep.augment.synonyms import changed
from finetune import model_folder
from finetune.augmentation import edits
from finetune.augmentation.apart import apart
from finetune.augmentation.edits import Word
from finetune.ner import words
from finetune.ner.windows import first_tokens
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError

LONGEST = 512  # tokens of a model input, at most

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Pieces:
    """What the tokens of a vocabulary are to words."""

    spelled: list[str]  # (V,) without marks of beginning or continuation
    ids: dict[str, list[int]]  # by what they spell, in small letters
    begins: Flags  # (V,) a word
    is_letters: Flags  # (V,) letters and digits only, of a script with spaces
    is_character: Flags  # (V,) one character of a script without spaces
    is_whole: Flags  # (V,) a word by itself: letters only, more than one in scripts with spaces
    is_uncased: bool  # the tokenizer makes all letters small


@dataclass(frozen=True)
class MaskedLM:
    """A masked language model and what is needed to draw words with it."""

    model: Any
    tokenizer: Tokenizer
    mask_id: int
    capacity: int  # tokens of a model input, special ones not counted
    pieces: Pieces

    def whole(self, word: str) -> Flags:
        """Which tokens (V,) can take a word's place; not itself, in whatever case."""
        pieces = self.pieces
        fits = pieces.is_character if words.is_unspaced(word[0]) else pieces.is_letters
        found: Flags = fits & pieces.is_whole
        found[pieces.ids.get(word.lower(), [])] = False
        return found

    def part(self, word: str, is_first: bool) -> Flags:
        """Which tokens (V,) can be drawn for the first or a later token of a word."""
        pieces = self.pieces
        if words.is_unspaced(word[0]):
            return pieces.is_character
        found: Flags = pieces.is_letters & (pieces.begins == is_first)
        return found

    def drawn(
        self, ids: Ids, place: int, allowed: Flags, top_k: int, temperature: float, rng: Random
    ) -> int | None:
        """A token for the place, among the likeliest that are allowed; None if none is.

        `ids` is a text without special tokens; what is far from the place is cut off if it is long.
        """
        import torch

        options = np.flatnonzero(allowed)
        if not len(options):
            return None
        start, end = around(len(ids), place, self.capacity)
        input_ids, types, offset = self.tokenizer.single.build(ids[start:end])
        inputs = {"input_ids": torch.from_numpy(input_ids.astype(np.int64))[None]}
        if types.any():
            inputs["token_type_ids"] = torch.from_numpy(types.astype(np.int64))[None]
        with torch.inference_mode(), apart():
            is_asked = torch.arange(len(input_ids))[None] == place - start + offset
            logits = logits_at(self.model, inputs, is_asked)[0].double().numpy()
        likeliest = options[np.argsort(-logits[options], kind="stable")[:top_k]]
        scores = logits[likeliest] / temperature
        return int(rng.choices(likeliest, np.exp(scores - scores.max()))[0])

    def runs(self, row: Sequence[Word]) -> list[Ids]:
        """The tokens of every word; none for a word that the tokenizer drops."""
        text, found = edits.text_of(row, "", "")
        tokens = self.tokenizer.tokens([text])[0]
        places = np.array(found, dtype=np.int64).reshape(-1, 2)
        if first_tokens(tokens, places)[2]:
            text, spaced = words.join([word.text for word in row], spaced=True)
            tokens = self.tokenizer.tokens([text])[0]
            places = np.array(spaced, dtype=np.int64).reshape(-1, 2)
        owner = np.searchsorted(places[:, 1], tokens.offsets[:, 0], side="right")
        owner = np.minimum(owner, len(row) - 1)
        return [tokens.ids[owner == i] for i in range(len(row))]

    def written(self, ids: Sequence[int], old: str) -> str:
        """What tokens of one word spell, in the case of the word they replace if the model knows
        none."""
        text = "".join(self.pieces.spelled[i] for i in ids)
        return changed(old, lambda _: [text], Random(0)) if self.pieces.is_uncased else text


def opened(folder: Path) -> MaskedLM:
    """The masked language model in a folder. Raises DataError if there is none."""
    if not local_models.is_masked(folder):
        raise DataError(
            f"{folder} holds no masked language model (its architecture is another): give "
            "`model` the folder of one, such as the export of the pretrain stage"
        )
    with apart():
        model, loaded = local_models.load(folder, "AutoModelForMaskedLM")
    if loaded.mask_token_id is None:
        raise DataError(
            f"the tokenizer in {folder} has no mask token; name one as `mask_token` in "
            "tokenizer_config.json"
        )
    tokenizer, _ = model_folder.load_tokenizer(folder)
    longest = local_models.longest_input(model, LONGEST)
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest -= tokenizer.pad_id + 1  # these count positions from there
    capacity = longest - tokenizer.single.num_special
    pieces = pieces_of(folder, int(model.config.vocab_size))
    return MaskedLM(model, tokenizer, loaded.mask_token_id, capacity, pieces)


def folder_of(model: Path | None, task: Any) -> Path:
    """The folder that an operation's `model` names, else that of the task's encoder."""
    if model is not None:
        return model
    if task.encoder is None:
        raise DataError("the task has no encoder yet; set `model` to the folder of a masked one")
    from finetune import encoder  # late: imports transformers

    return encoder.locate(task.encoder)


@lru_cache(maxsize=2)
def pieces_of(folder: Path, size: int) -> Pieces:
    """Sorts the vocabulary of a folder's tokenizer; a model may have more outputs than that."""
    backend = model_folder.load_tokenizer(folder)[0].backend
    known = min(backend.get_vocab_size(with_added_tokens=True), size)
    begins = word_starts.word_bounds(json.loads(backend.to_str()), max(known, size)).begins
    spelled = [backend.decode([i]).strip().removeprefix("##") for i in range(known)]
    for number in backend.get_added_tokens_decoder():
        spelled[number] = ""
    spelled += [""] * (size - known)
    encoded = backend.encode_batch([" " + text for text in spelled], add_special_tokens=False)
    is_character = np.array([len(text) == 1 and words.is_unspaced(text) for text in spelled])
    is_letters = np.array([bool(text) and all(map(is_letter, text)) for text in spelled])
    is_one = np.array([found.ids == [i] for i, found in enumerate(encoded)])
    # A letter alone is more often a piece of a longer word, or a symbol.
    is_word = np.array([text.isalpha() and len(text) > 1 for text in spelled]) | is_character
    small, large = (backend.encode(text, add_special_tokens=False).ids for text in ("ab", "AB"))
    ids: dict[str, list[int]] = {}
    for number, text in enumerate(spelled):
        ids.setdefault(text.lower(), []).append(number)
    return Pieces(
        spelled, ids, begins[:size], is_letters, is_character, is_one & is_word, small == large
    )


def is_letter(character: str) -> bool:
    """A letter, mark or digit that is no word of its own."""
    return words.role(character) == 1 and unicodedata.category(character)[0] in "LMN"


def logits_at(model: Any, inputs: Mapping[str, Any], is_asked: Any) -> Any:
    """The logits (N, V) of some tokens (B, T); those of all would cost as much as the encoder."""
    hidden = model.base_model(**inputs).last_hidden_state
    return head_of(model).logits(hidden[is_asked])


@lru_cache(maxsize=2)
def head_of(model: Any) -> Any:
    """What makes logits of hidden states; RecipeError for a model whose head is no chain."""
    from pretrain.model.head import Head  # late: imports torch

    return Head(model)


def around(length: int, place: int, capacity: int) -> tuple[int, int]:
    """Start and end of the part of a text that fits, with the place in its middle if it can."""
    start = max(0, min(place - capacity // 2, length - capacity))
    return start, min(length, start + capacity)
