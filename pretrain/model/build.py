"""Build the encoder with its masked-LM head: from a shape, or from a checkpoint to continue.

The models are the classes of transformers, built with packed attention. The vocabulary is padded to
a multiple of 64 rows, which matrix products like; the extra rows are never targets.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    BertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    UltrabertConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import cached_file

from data_prep.shards import Corpus, TokenizerFacts
from data_prep.tokenizer import load_json
from data_prep.training.extension import differences, new_pieces
from pretrain.config import Model
from pretrain.model import attention, embeddings
from runtime.errors import DataError, RecipeError

VOCABULARY_MULTIPLE = 64


def build(table: Model, corpus: Corpus, longest: int) -> PreTrainedModel:
    """The model a recipe asks for, for samples of at most `longest` tokens.

    Raises DataError if a checkpoint does not fit the shards.
    """
    if table.checkpoint is not None:
        return from_checkpoint(table.checkpoint, corpus, longest)
    config = shape(table, corpus.tokenizer, longest)
    return AutoModelForMaskedLM.from_config(config, attn_implementation=attention.NAME)


def shape(table: Model, tokenizer: TokenizerFacts, sequence_length: int) -> PreTrainedConfig:
    """The transformers configuration of a model from scratch."""
    positions = table.max_positions or sequence_length
    if positions < sequence_length:
        raise RecipeError(
            f"model.max_positions ({positions}) is below the samples' length ({sequence_length}); "
            f"raise it to {sequence_length} or repack the shards shorter"
        )
    common: dict[str, Any] = {
        "vocab_size": whole_rows(tokenizer),
        "num_hidden_layers": table.num_layers,
        "hidden_size": table.hidden_size,
        "num_attention_heads": table.num_heads,
        "intermediate_size": table.intermediate_size,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.cls_id,
        "eos_token_id": tokenizer.sep_id,
    }
    if table.architecture == "modernbert":
        return ModernBertConfig(
            **common,
            max_position_embeddings=positions,
            cls_token_id=tokenizer.cls_id,
            sep_token_id=tokenizer.sep_id,
            local_attention=table.local_window,
            global_attn_every_n_layers=table.global_every,
            attention_dropout=table.dropout,
            embedding_dropout=table.dropout,
            classifier_pooling="mean",  # masked tokens alone never train the first one
            mlp_dropout=table.dropout,
        )
    if table.architecture == "ultrabert":
        return UltrabertConfig(
            **common,
            max_position_embeddings=positions,
            sliding_window=table.local_window // 2,  # to each side
            layer_types=[
                "sliding_attention" if number % table.global_every else "full_attention"
                for number in range(1, table.num_layers + 1)
            ],
            prediction_head_size=table.hidden_size,
            attention_dropout=table.dropout,
            classifier_pooling="mean",  # masked tokens alone never train the first one
        )
    common |= {
        "hidden_dropout_prob": table.dropout,
        "attention_probs_dropout_prob": table.dropout,
    }
    if table.architecture == "bert":
        return BertConfig(**common, max_position_embeddings=positions)
    # RoBERTa counts positions from padding_idx + 1.
    return RobertaConfig(
        **common, max_position_embeddings=positions + tokenizer.pad_id + 1, type_vocab_size=1
    )


def whole_rows(tokenizer: TokenizerFacts) -> int:
    """Rows of the vocabulary's tables."""
    return -(-tokenizer.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def from_checkpoint(name: str, corpus: Corpus, needed: int) -> PreTrainedModel:
    """A model to continue, whose tokenizer, possibly extended, must be that of the shards."""
    try:
        config = AutoConfig.from_pretrained(name)
        file = cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"model.checkpoint {name!r} is neither a folder with a model nor a hub id that can be "
            f"reached: {str(error).splitlines()[0]}"
        ) from None
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise RecipeError(
            f"model.checkpoint {name!r} is of type {config.model_type!r}, which has no masked-LM "
            "class in transformers; choose an encoder such as modernbert, bert or roberta"
        )
    added = check_tokenizer(name, file, corpus)
    if added:
        model = embeddings.extended(name, Path(file or ""), added, whole_rows(corpus.tokenizer))
    else:
        model = AutoModelForMaskedLM.from_pretrained(
            name, attn_implementation=attention.NAME, dtype=torch.float32
        )
    longest = longest_input(model.config)
    if longest < needed:
        raise DataError(
            f"{name} takes inputs of {longest} tokens, the samples have {needed}; "
            f"set packing.sequence_length = {longest} and build the shards again"
        )
    return model


def check_tokenizer(name: str, file: str | None, corpus: Corpus) -> dict[str, int]:
    """The ids of what the shards' tokenizer has beyond the checkpoint's. Raises DataError unless it
    is the checkpoint's own, or that one extended."""
    if file is None:
        raise DataError(
            f"model.checkpoint {name!r} has no tokenizer.json to compare with that of the shards; "
            "save its fast tokenizer beside it"
        )
    (Path(file), corpus.tokenizer.folder / "tokenizer.json")
    theirs, ours = map(load_json, (Path(file), corpus.tokenizer.folder / "tokenizer.json"))
    differing = differences(theirs, ours)
    if differing:
        raise DataError(
            f"the shards in {corpus.folder} were made with another tokenizer than {name} "
            f"(different: {', '.join(differing)}); set tokenizer.path to it (tokenizer.extend_by "
            "may add to it) and build them again"
        )
    return new_pieces(theirs, ours)


def longest_input(config: PreTrainedConfig) -> int:
    """Tokens an input may have; types without a table of positions take any number."""
    positions = getattr(config, "max_position_embeddings", None) or sys.maxsize
    return int(positions) - first_position(config)


def first_position(config: PreTrainedConfig) -> int:
    """The position number of a segment's first token: RoBERTa and its descendants count from
    padding_idx + 1. Raises RecipeError for a type without a masked-LM class."""
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise RecipeError(f"{config.model_type!r} has no masked-LM class in transformers")
    code = sys.modules[MODEL_FOR_MASKED_LM_MAPPING[type(config)].__module__]
    counts_from_padding = any(
        hasattr(found, "create_position_ids_from_input_ids")
        for found in (code, *vars(code).values())
    )
    return int(config.pad_token_id) + 1 if counts_from_padding else 0
