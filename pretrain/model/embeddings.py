"""Rows for the tokens that a checkpoint's vocabulary lacks.

A new token begins as the mean of the pieces the checkpoint's own tokenizer spells it with, in the
embeddings and the output layer (FVT: Gee et al. 2022, "Fast Vocabulary Transfer for Language Model
Compression"; AVocaDo: Hong et al. 2021 start the same way). So it would be as probable as its
pieces, and with many new tokens the old ones lose: its bias is the mean of theirs less the
logarithm of one more than the number of new tokens that begin with the same piece, which share
what that piece had. Rows that only fill the table up begin as the mean of all (Hewitt 2021,
"Initializing New Word Embeddings for Pretrained Language Models"), where they take little of the
probability.
"""

# V rows of the vocabulary  D model width

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.integrations import deepspeed as integration

from data_prep.tokenizer import load_json
from data_prep.training import extension
from pretrain.model import attention

Parts = Mapping[int, Sequence[int]]  # old ids that spell each new id


def extended(
    name: str, tokenizer_json: Path, added: Mapping[str, int], num_rows: int
) -> PreTrainedModel:
    """The checkpoint with `num_rows` rows at least, `added` being the ids of the pieces that its
    own `tokenizer_json` lacks. All ranks call it, with equal random states.

    A model built in shards cannot grow, so every rank reads it whole first, in fp32; layers that
    the checkpoint lacks are drawn there.
    """
    tokenizer = load_json(tokenizer_json)
    description = json.loads(tokenizer.to_str())
    prefix = description["model"].get("continuing_subword_prefix") or ""
    parts = {
        number: extension.old_pieces(tokenizer, prefix, piece) for piece, number in added.items()
    }
    with whole():
        model = AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32)
    grow(model, parts, num_rows)
    return type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=dict(model.state_dict()),  # plain: transformers cannot copy metadata here
        attn_implementation=attention.NAME,
        dtype=torch.float32,
    )


@contextmanager
def whole() -> Iterator[None]:
    """Models built inside are not in shards, whatever the engine's stage."""
    held = integration._hf_deepspeed_config_weak_ref  # a weak reference, or None
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = held


def grow(model: PreTrainedModel, parts: Parts, num_rows: int) -> None:
    """Give the model `num_rows` rows at least, and the new tokens their initial values."""
    before = model.get_input_embeddings().weight.shape[0]
    if num_rows > before:
        model.resize_token_embeddings(num_rows, mean_resizing=False)
    for table in tables(model):
        known = table[:before]
        initial = {number: known[list(ids)].mean(dim=0) for number, ids in parts.items() if ids}
        table[before:] = known.mean(dim=0)
        for number, row in initial.items():
            table[number] = row
    bias = model.get_output_embeddings().bias
    if bias is not None:
        sharing = Counter(ids[0] for ids in parts.values() if ids)
        for number, ids in parts.items():
            bias.data[number] -= math.log1p(sharing[ids[0]]) if ids else 0.0


def tables(model: PreTrainedModel) -> list[Tensor]:
    """The embeddings (V, D), the output layer (V, D) where it is another, and its bias (V,)."""
    first, last = model.get_input_embeddings().weight, model.get_output_embeddings()
    found = [first] if last.weight is first else [first, last.weight]
    return [table.data for table in (*found, last.bias) if table is not None]
