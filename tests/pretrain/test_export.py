"""An export: an ordinary model folder, whole or absent, that leaves the run as it was."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM

from pretrain.export import Exporter
from runtime.engine import Engine
from runtime.errors import DataError, DiskError
from tests.small_disk import small_disk

__all__ = ["small_disk"]  # a fixture


@pytest.fixture
def model() -> BertForMaskedLM:
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForMaskedLM(BertConfig(vocab_size=32, intermediate_size=16, **shape)).bfloat16()


@pytest.fixture
def exporter(model: BertForMaskedLM, tmp_path: Path) -> Exporter:
    """Exports what an engine would hold: fp32 weights under the prefix `model.`."""
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    weights = {f"model.{name}": value.detach().float() for name, value in model.named_parameters()}
    engine = SimpleNamespace(full_parameters=lambda: weights)
    return Exporter(cast(Engine, engine), model, "model.", tokenizer, {"recipe": "tiny"})


def weights_of(folder: Path) -> dict[str, Tensor]:
    return dict(AutoModelForMaskedLM.from_pretrained(folder).named_parameters())


def test_an_export_holds_the_fp32_weights_the_tokenizer_and_the_facts(
    exporter: Exporter, model: BertForMaskedLM, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    model.config.dtype = torch.bfloat16
    exporter.write(folder, {"step": 7})
    for name, value in weights_of(folder).items():
        assert value.dtype == torch.float32
        assert torch.equal(value, model.get_parameter(name).float()), name
    facts = json.loads((folder / "textmill.json").read_text())
    assert (facts["recipe"], facts["step"]) == ("tiny", 7)
    assert facts["tokenizer"].startswith("xxh3:")
    assert model.config.dtype == torch.bfloat16  # the run goes on as before
    assert not (tmp_path / "export.tmp").exists()


def test_an_export_replaces_the_one_before_and_what_was_left_of_a_kill(
    exporter: Exporter, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    (tmp_path / "export.tmp").mkdir()
    (tmp_path / "export.tmp/torn").write_text("")
    exporter.write(folder, {"step": 1})
    (folder / "foreign").write_text("")
    exporter.write(folder, {"step": 2})
    assert json.loads((folder / "textmill.json").read_text())["step"] == 2
    assert not (folder / "foreign").exists()
    assert not (folder / "torn").exists()


def test_a_wrong_shape_is_an_error_and_no_export(exporter: Exporter, tmp_path: Path) -> None:
    weights = dict(exporter.engine.full_parameters() or {})
    weights["model.bert.embeddings.word_embeddings.weight"] = torch.zeros(0)  # a gathering missed
    with pytest.raises(DataError, match=r"embeddings\.weight was written as \[0\], the model has"):
        exporter.write_weights(weights, tmp_path / "export", {})
    assert not (tmp_path / "export").exists()


def test_a_full_disk_is_said_and_leaves_the_export_before(
    exporter: Exporter, small_disk: Path
) -> None:
    exporter.write(small_disk / "export", {"step": 1})
    (small_disk / "foreign").write_bytes(bytes(1_000_000 - 70_000))
    with pytest.raises(DiskError, match="No space left"):
        exporter.write(small_disk / "export", {"step": 2})
    assert json.loads((small_disk / "export/textmill.json").read_text())["step"] == 1
