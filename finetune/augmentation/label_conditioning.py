"""A masked language model that sees labels: what it fills in agrees with them.

After MELM (Zhou et al. 2022, arXiv 2108.13655): in a sentence, a label token stands before and
after every word of an entity, one for each tag. In texts, the label's tokens stand in front (after
Kumar, Choudhary, Cho 2020, arXiv 2003.02245). Label tokens get ids behind the vocabulary, which
nothing can spell and which are never drawn, and begin as the mean of the tokens of their name.
Adapting masks words of entities (of texts, any words) at the rate of the paper and learns them. The
texts of a pair are seen one by one.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from finetune.augmentation import adaptation, edits, masked_words
from finetune.augmentation.apart import apart
from finetune.augmentation.edits import Word
from finetune.augmentation.masked_words import Ids, MaskedLM
from finetune.ner.tagged_text import Sentence
from finetune.task import IGNORED
from runtime.errors import DataError

ADAPTING_RATE = 0.7  # of words of entities masked in a step, as in the paper
ADAPTING_RATE_OF_TEXTS = 0.15


@dataclass(frozen=True)
class Conditioned:
    """A masked language model with label tokens."""

    lm: MaskedLM
    label_ids: dict[str, int]

    def labelled(self, row: Any, text: Sequence[Word]) -> "Labelled":
        """Words of a row as tokens with its labels."""
        runs = [list(run) for run in self.lm.runs(text)] if text else []
        if not isinstance(row, Sentence):
            front = [self.label_ids[label] for label in edits.labels_of(row)]
            return Labelled(np.array(front, dtype=np.int32), [(run, ()) for run in runs])
        around: list[tuple[int, ...]] = []
        before: int | None = None
        for word in text:
            if word.mention is None:
                around.append(())
            else:
                prefix = "I" if word.mention == before else "B"
                around.append((self.label_ids[f"{prefix}-{row.entities[word.mention].type}"],))
            before = word.mention
        return Labelled(np.zeros(0, dtype=np.int32), list(zip(runs, around, strict=True)))


@dataclass
class Labelled:
    """The tokens of words, each with the label tokens that stand on both sides of it."""

    front: Ids
    runs: list[tuple[list[int], tuple[int, ...]]]

    def ids(self) -> Ids:
        parts = [[*around, *run, *around] for run, around in self.runs]
        return np.concatenate([self.front, *parts]).astype(np.int32)

    def place(self, word: int) -> int:
        """Where the tokens of a word begin."""
        sizes = [len(run) + 2 * len(around) for run, around in self.runs[:word]]
        return len(self.front) + sum(sizes) + len(self.runs[word][1])


def conditioned(folder: Path, rows: Sequence[Any], steps: int, learning_rate: float) -> Conditioned:
    """The model of a folder with label tokens, adapted to the rows.

    Raises DataError if there is no such model, or if the rows have no labels.
    """
    lm = masked_words.opened(folder)
    names = names_of(rows)
    if not names:
        raise DataError(
            "masked_lm needs training rows with entities, or with labels that are names; these "
            "have none; remove it from `augment`"
        )
    model, first = with_labels(lm, names)
    own = replace(lm, model=model, pieces=longer(lm.pieces, len(names)))
    found = Conditioned(own, {name: first + i for i, name in enumerate(names)})
    items = [item for row in rows for item in items_of(row, found)]
    adaptation.adapt(model, items, lambda batch, rng: loss(own, batch, rng), steps, learning_rate)
    return found


def names_of(rows: Sequence[Any]) -> list[str]:
    """The tags of entities, or the labels, of all rows."""
    if isinstance(rows[0], Sentence):
        types = sorted({entity.type for row in rows for entity in row.entities})
        return [f"{prefix}-{kind}" for kind in types for prefix in "BI"]
    return sorted({label for row in rows for label in edits.labels_of(row)})


def with_labels(lm: MaskedLM, names: Sequence[str]) -> tuple[Any, int]:
    """A copy of the model that has an embedding for each label, and the first one's id."""
    import torch

    with apart():
        model = copy.deepcopy(lm.model)
        first = int(model.config.vocab_size)
        model.resize_token_embeddings(first + len(names), mean_resizing=False)
    vectors = model.get_input_embeddings().weight
    with torch.no_grad():
        for number, name in enumerate(names, start=first):
            text = re.sub("^[BI]-", "", name).replace("_", " ").lower()
            ids = torch.from_numpy(lm.tokenizer.tokens([text])[0].ids.astype(np.int64))
            vectors[number] = (vectors[ids] if len(ids) else vectors[:first]).mean(dim=0)
    return model, first


def longer(pieces: masked_words.Pieces, count: int) -> masked_words.Pieces:
    """A vocabulary with so many more tokens, none of which can be drawn."""
    more = np.zeros(count, dtype=bool)
    return replace(
        pieces,
        spelled=[*pieces.spelled, *[""] * count],
        begins=np.append(pieces.begins, more),
        is_letters=np.append(pieces.is_letters, more),
        is_character=np.append(pieces.is_character, more),
        is_whole=np.append(pieces.is_whole, more),
    )


@dataclass(frozen=True)
class Item:
    """A text to adapt to: its tokens, and which of them can be masked."""

    ids: Ids
    places: list[int]
    rate: float


def items_of(row: Any, model: Conditioned) -> list[Item]:
    """The texts of a row that have something to mask."""
    is_tagged = isinstance(row, Sentence)
    texts = [edits.words_of(row)] if is_tagged else [*map(edits.words_of_text, row.texts)]
    found = []
    for text in texts:
        tokens = model.labelled(row, text)
        starts = [(tokens.place(i), len(tokens.runs[i][0])) for i in drawable(text, is_tagged)]
        places = [place for start, size in starts for place in range(start, start + size)]
        rate = ADAPTING_RATE if is_tagged else ADAPTING_RATE_OF_TEXTS
        found += [Item(tokens.ids(), places, rate)] if places else []
    return found


def drawable(text: Sequence[Word], is_tagged: bool) -> list[int]:
    """The words that may change: of a sentence those of entities, of texts all; with letters."""
    return [i for i in edits.lettered(text) if text[i].mention is not None or not is_tagged]


def loss(lm: MaskedLM, items: Sequence[Item], rng: Random) -> Any:
    """Mean cross-entropy of the masked tokens of some texts."""
    import torch

    template = lm.tokenizer.single
    inputs, targets = [], []
    for item in items:
        start, end = masked_words.around(len(item.ids), rng.choice(item.places), lm.capacity)
        known = [place for place in item.places if start <= place < end]
        drawn = [place for place in known if rng.random() < item.rate] or [rng.choice(known)]
        masked = item.ids.copy()
        masked[drawn] = lm.mask_id
        input_ids, _, offset = template.build(masked[start:end])
        target = np.full(len(input_ids), IGNORED)
        for place in drawn:
            target[place - start + offset] = item.ids[place]
        inputs.append(torch.from_numpy(input_ids.astype(np.int64)))
        targets.append(torch.from_numpy(target))
    padded = torch.nn.utils.rnn.pad_sequence(inputs, True, lm.tokenizer.pad_id)
    goal = torch.nn.utils.rnn.pad_sequence(targets, True, IGNORED)
    sizes = torch.tensor([len(found) for found in inputs])
    attention = torch.arange(padded.shape[1])[None] < sizes[:, None]
    is_masked = goal != IGNORED
    logits = masked_words.logits_at(
        lm.model, {"input_ids": padded, "attention_mask": attention.long()}, is_masked
    )
    return torch.nn.functional.cross_entropy(logits, goal[is_masked])
