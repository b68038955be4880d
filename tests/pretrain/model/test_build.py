"""Shapes from scratch, and what checkpoints of other types are told."""

from pathlib import Path
from typing import Any, cast

import pytest
from transformers import (
    DistilBertConfig,
    GPT2Config,
    NomicBertConfig,
    RobertaConfig,
    UltrabertConfig,
    XLMRobertaConfig,
)

from data_prep.shards import Corpus, TokenizerFacts
from pretrain.config import Model
from pretrain.model.build import first_position, from_checkpoint, longest_input, shape
from runtime.errors import RecipeError


class Facts:
    """Stands for a tokenizer of 100 words."""

    vocab_size, pad_id, cls_id, sep_id = 100, 0, 1, 2


def test_ultrabert_from_scratch() -> None:
    table = Model(
        architecture="ultrabert",
        num_layers=6,
        hidden_size=32,
        num_heads=4,
        local_window=128,
        global_every=3,
    )
    config: Any = shape(table, cast(TokenizerFacts, Facts()), 64)
    assert isinstance(config, UltrabertConfig)
    assert config.vocab_size == 128
    assert config.sliding_window == 64  # to each side
    assert config.layer_types == ["sliding_attention", "sliding_attention", "full_attention"] * 2
    assert (config.prediction_head_size, config.max_position_embeddings) == (32, 64)


def test_first_and_last_position_by_type() -> None:
    for config, first, longest in (
        (RobertaConfig(pad_token_id=1, max_position_embeddings=514), 2, 512),
        (XLMRobertaConfig(pad_token_id=1, max_position_embeddings=514), 2, 512),
        (DistilBertConfig(max_position_embeddings=512), 0, 512),
        (NomicBertConfig(max_position_embeddings=2048), 0, 2048),
    ):
        assert (first_position(config), longest_input(config)) == (first, longest)


def test_a_type_without_a_masked_lm_class_is_refused(tmp_path: Path) -> None:
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="'gpt2', which has no masked-LM class"):
        from_checkpoint(str(tmp_path), cast(Corpus, None), 64)
