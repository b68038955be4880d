"""Learning rates by layer, worked out by hand for two layers."""

from pathlib import Path

import pytest

from finetune import layers
from finetune.task import Training
from tests.finetune.conftest import write_encoder


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [("bert", "encoder.layer"), ("modernbert", "layers"), ("distilbert", "transformer.layer")],
)
def test_rates_fall_towards_the_embeddings(architecture: str, layer: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, architecture)
    table = Training(layer_decay=0.5, learning_rate=1e-4, head_learning_rate=4e-4)
    rate = layers.rates(folder, table)
    known = layers.distances(folder)
    low = next(name for name in known if name.startswith(f"{layer}.0."))
    high = next(name for name in known if name.startswith(f"{layer}.1."))
    embeddings = next(name for name in known if "embeddings" in name)
    inside = [f"model.{architecture}.{name}" for name in (high, low, embeddings)]
    assert [rate(name) for name in inside] == [0.5, 0.25, 0.125]
    assert rate("model.classifier.weight") == 4.0
    assert rate("loss.chain.between") == 4.0
    # Of several tasks on one encoder.
    assert rate(f"parts.of_topic.model.{architecture}.{low}") == 0.25
    assert rate("parts.of_topic.model.classifier.weight") == 4.0


def test_what_comes_after_the_layers_goes_with_the_top_one(tmp_path: Path) -> None:
    known = layers.distances(write_encoder(tmp_path, "modernbert"))
    assert known["final_norm.weight"] == 1
    assert known["embeddings.norm.weight"] == 3


def test_a_pooler_is_made_for_the_task(tmp_path: Path) -> None:
    rate = layers.rates(write_encoder(tmp_path, "bert"), Training(layer_decay=0.5))
    assert rate("model.bert.pooler.dense.weight") == 1.0


def test_nothing_is_loaded_where_all_rates_are_alike() -> None:
    rate = layers.rates(Path("no/such/folder"), Training())
    assert rate("model.bert.encoder.layer.0.output.dense.weight") == 1.0
