"""Rows of new tokens: the mean of what they were spelt with, in every table; better than chance."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig, RobertaConfig
from transformers.integrations import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

from data_prep import tokenizer
from data_prep.tokenizer import Tokenizer
from data_prep.training import extension
from pretrain.model import attention, embeddings
from tests.data_prep.conftest import texts
from tests.data_prep.test_extension import domain_texts

SHAPE = {
    "vocab_size": 512,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
CONFIGS = {
    "bert": BertConfig(**SHAPE),
    "roberta": RobertaConfig(**SHAPE, tie_word_embeddings=False),
    "modernbert": ModernBertConfig(**SHAPE, cls_token_id=2, sep_token_id=3),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_new_rows_are_means(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(CONFIGS[name])
    tables = embeddings.tables(model)
    assert len(tables) == (3 if name == "roberta" else 2)
    for table in tables:
        table.normal_()
    old = [table.clone() for table in tables]
    embeddings.grow(model, {512: [7, 9], 513: [11], 514: [7, 3]}, 576)
    for before, after in zip(old, embeddings.tables(model), strict=True):
        assert after.shape[0] == 576
        assert torch.equal(after[:512], before)
        shared = math.log(3) if after.ndim == 1 else 0.0  # by piece 7 and two tokens
        assert torch.allclose(after[512], (before[7] + before[9]) / 2 - shared, atol=1e-6)
        assert torch.allclose(after[514], (before[7] + before[3]) / 2 - shared, atol=1e-6)
        alone = math.log(2) if after.ndim == 1 else 0.0
        assert torch.allclose(after[513], before[11] - alone, atol=1e-6)
        assert torch.allclose(after[515:], before.mean(dim=0).expand_as(after[515:]), atol=1e-6)
    assert model.config.vocab_size == 576
    logits = model(input_ids=torch.tensor([[2, 512, 3]])).logits
    assert logits.shape == (1, 3, 576)


def test_rows_that_are_there_are_used() -> None:
    """A checkpoint whose table is longer than its vocabulary."""
    model = AutoModelForMaskedLM.from_config(CONFIGS["bert"])
    before = embeddings.tables(model)[0].clone()
    embeddings.grow(model, {500: [7, 9]}, 512)
    after = embeddings.tables(model)[0]
    assert after.shape == before.shape
    assert torch.allclose(after[500], (before[7] + before[9]) / 2)
    assert torch.equal(after[501:], before[501:])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT that knows the words of the field by their syllables."""
    folder = tmp_path_factory.mktemp("checkpoint")
    table = Tokenizer(vocab_size=512, model="wordpiece")
    tokenizer.prepare(folder / "tokenizer", table, lambda: texts(200, seed=5))
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(BertConfig(**SHAPE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    inputs, labels = masked_batch(folder / "tokenizer", domain_texts(200, seed=5))
    for _ in range(120):
        some = torch.randint(len(inputs), (16,))
        loss = model(input_ids=inputs[some], labels=labels[some]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    shutil.copytree(folder / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def masked_batch(folder: Path, found: list[str]) -> tuple[Any, Any]:
    """The first 48 tokens of each text, a quarter of them to be found."""
    reference = tokenizer.load_json(folder / "tokenizer.json")
    rows = [encoded.ids[:48] for encoded in reference.encode_batch(found)]
    labels = torch.tensor([row for row in rows if len(row) == 48])
    chosen = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.25
    mask_id = tokenizer.facts(folder).mask_id
    return labels.where(~chosen, mask_id), labels.where(chosen, -100)


def test_the_mean_beats_random_rows(checkpoint: Path, tmp_path: Path) -> None:
    table = Tokenizer(path=checkpoint, extend_by=40)
    tokenizer.prepare(tmp_path / "new", table, lambda: domain_texts(60, seed=5))
    file = checkpoint / "tokenizer.json"
    old, new = map(tokenizer.load_json, (file, tmp_path / "new" / "tokenizer.json"))
    added = extension.new_pieces(old, new)
    assert added
    model = embeddings.extended(str(checkpoint), file, added, 576)
    assert model.config._attn_implementation == attention.NAME
    model.config._attn_implementation = "sdpa"
    inputs, labels = masked_batch(tmp_path / "new", domain_texts(60, seed=9))
    assert (labels >= 512).sum() > 50
    with torch.no_grad():
        with_means = model.eval()(input_ids=inputs, labels=labels).loss.item()
        random = AutoModelForMaskedLM.from_pretrained(checkpoint)
        torch.manual_seed(3)
        random.resize_token_embeddings(576, mean_resizing=False)
        with_random = random.eval()(input_ids=inputs, labels=labels).loss.item()
    assert with_means < with_random


def test_a_model_grows_whole_beside_shards(checkpoint: Path) -> None:
    held = HfDeepSpeedConfig({"train_batch_size": 1, "zero_optimization": {"stage": 3}})
    with embeddings.whole():
        assert not is_deepspeed_zero3_enabled()
    assert is_deepspeed_zero3_enabled()
    del held
