"""Synthesis by a local causal language model: rows that it writes for given labels.

The model is adapted to the training rows as lines, `label: text` (of sentences: the types of their
entities, and tags around these, see finetune/augmentation/markup.py), each behind some lines with
the same label as examples. In the same way it is then asked for a line with the labels of a row.
What it writes is read strictly: a line that does not end, is empty, or whose tags are broken is
given up, and counted as `unchanged`. A small model writes much that is wrong: set `filter_model`,
and look at the rows.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import Field

from data_prep import local_models
from finetune.augmentation import adaptation, edits, markup
from finetune.augmentation.apart import apart
from finetune.augmentation.augmenting import Augmentation, model_files
from finetune.ner.tagged_text import Sentence
from runtime.config import Positive, PositiveFloat

FITS = ("token", "sequence")

LONGEST = 1024  # tokens of a model input, at most
NO_LABEL = "none"


class Params(Augmentation):
    """Writes new rows with the labels of others."""

    kind: Literal["causal_lm"] = "causal_lm"
    model: Path  # folder of a causal language model with its tokenizer
    steps: int = Field(default=100, ge=0)  # of adapting it, 16 rows each; 0: prompted only
    learning_rate: PositiveFloat = 5e-5  # of adapting it, at the beginning
    examples: int = Field(default=3, ge=0)  # training rows with the same labels in front
    max_tokens: Positive = 128  # of a row
    temperature: PositiveFloat = 1.0  # of drawing
    top_p: float = Field(
        default=0.95, gt=0, le=1
    )  # drawn among the likeliest tokens with this much probability together


@dataclass(frozen=True)
class Writer:
    """A causal language model and the training rows it takes examples from."""

    model: Any
    tokenizer: Any
    capacity: int  # tokens of a model input
    lines: dict[str, list[str]]  # by label, in the order of the rows
    types: frozenset[str]  # of entities

    def prompt(self, label: str, own: str, count: int, room: int, rng: Random) -> str:
        """Examples other than a row's own line, as many as leave room, and the label."""
        others = [line for line in self.lines[label] if line != own]
        for size in range(min(count, len(others)), -1, -1):
            text = "".join(rng.sample(others, size)) + f"{label}:"
            if len(self.tokenizer(text).input_ids) + room <= self.capacity:
                break
        return text


def inputs(params: Params) -> list[Path]:
    return model_files(params.model)


def prepare(train: Sequence[Any], task: Any, params: Params) -> Writer:
    """Raises DataError if the folder holds no causal language model."""
    with apart():
        model, tokenizer = local_models.load(params.model, "AutoModelForCausalLM")
    lines: dict[str, list[str]] = {}
    for row in train:
        lines.setdefault(label_of(row), []).append(line_of(row))
    types = frozenset(
        entity.type for row in train if isinstance(row, Sentence) for entity in row.entities
    )
    capacity = local_models.longest_input(model, LONGEST)
    writer = Writer(model, tokenizer, capacity, lines, types)

    if not params.steps:
        return writer
    own = replace(writer, model=copy.deepcopy(model))  # the one that was opened is shared

    def loss(rows: list[Any], rng: Random) -> Any:
        return loss_of(own, rows, params, rng)

    adaptation.adapt(own.model, list(train), loss, params.steps, params.learning_rate)
    return own


def label_of(row: Any) -> str:
    """The labels of a row, or the types of its entities, as the beginning of a line."""
    found = [entity.type for entity in row.entities] if isinstance(row, Sentence) else None
    names = sorted(set(found)) if found is not None else edits.labels_of(row)
    return ", ".join(" ".join(name.split()) for name in names) or NO_LABEL


def line_of(row: Any) -> str:
    """A row as the model learns it."""
    is_tagged = isinstance(row, Sentence)
    text = markup.of_sentence(row) if is_tagged else markup.of_texts(row.texts)
    return f"{label_of(row)}: {text}\n"


def loss_of(writer: Writer, rows: list[Any], params: Params, rng: Random) -> Any:
    """Mean cross-entropy of the tokens of rows behind their examples."""
    import torch

    inputs = []
    for row in rows:
        line = line_of(row)
        room = len(writer.tokenizer(line).input_ids)
        prompt = writer.prompt(label_of(row), line, params.examples, room, rng)
        text = prompt + line.removeprefix(f"{label_of(row)}:")
        ids = writer.tokenizer(text, add_special_tokens=False).input_ids[-writer.capacity :]
        inputs.append(torch.tensor(ids))
    padded = torch.nn.utils.rnn.pad_sequence(inputs, True, 0)
    sizes = torch.tensor([len(found) for found in inputs])
    is_text = torch.arange(padded.shape[1])[None] < sizes[:, None]
    logits = writer.model(input_ids=padded, attention_mask=is_text.long()).logits[:, :-1]
    targets = torch.where(is_text, padded, -100)[:, 1:]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100
    )


def augment(row: Any, resources: Writer, params: Params, rng: Random) -> Iterator[Any]:
    """One row with the labels of this one; the row itself if what was written is none."""
    label = label_of(row)
    prompt = resources.prompt(label, line_of(row), params.examples, params.max_tokens, rng)
    line = written(resources, prompt, params, rng.getrandbits(63))
    if line is None:
        yield row
    elif isinstance(row, Sentence):
        parts = markup.sentence_parts(line, resources.types)
        yield row if parts is None else edits.rewritten(row, parts)
    else:
        texts = markup.texts_of(line, len(row.texts))
        yield row if texts is None else replace(row, texts=texts)


def written(writer: Writer, prompt: str, params: Params, seed: int) -> str | None:
    """The rest of the line that the model writes behind a prompt; None if it does not end it."""
    import torch
    from transformers import StoppingCriteriaList

    tokenizer = writer.tokenizer
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids])
    room = min(params.max_tokens, writer.capacity - ids.shape[1])
    if room <= 0:
        return None

    def text_of(found: Any) -> str:
        text: str = tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        return text

    def is_done(found: Any, scores: Any, **_: Any) -> Any:
        return torch.full((len(found),), "\n" in text_of(found), dtype=torch.bool)

    with torch.inference_mode(), apart(seed):
        outputs = writer.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=params.temperature,
            top_k=0,
            top_p=params.top_p,
            max_new_tokens=room,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
            stopping_criteria=StoppingCriteriaList([is_done]),
        )
    text = text_of(outputs)
    line, end, _ = text.partition("\n")
    is_ended = bool(end) or int(outputs[0, -1]) == tokenizer.eos_token_id
    usable = is_ended and line.strip() and local_models.UNFINISHED not in line
    return line.strip() if usable else None
