"""Batch algebra, and engine policy against recipe facts."""

import json
from pathlib import Path
from typing import Literal

import pytest
from deepspeed import DeepSpeedConfig

from runtime import config
from runtime.ds_config import RECIPE_FACTS, Batch, join_config, read_ds_config
from runtime.errors import RecipeError

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "ds_configs").glob("*.json"))


def test_accumulation_is_what_is_left_of_the_global_batch() -> None:
    assert Batch(64, 8).accumulation(world_size=2) == 4
    assert Batch(8, 8).accumulation(world_size=1) == 1


def test_impossible_batch_names_the_nearest_that_fit() -> None:
    with pytest.raises(RecipeError, match=r"1000.*16 x 8 = 128; nearest: 896 or 1024"):
        Batch(1000, 16).accumulation(world_size=8)
    with pytest.raises(RecipeError, match=r"nearest: 16$"):
        Batch(3, 8).accumulation(world_size=2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_policy_joins_with_recipe_facts(
    name: str, precision: Literal["fp32", "bf16"]
) -> None:
    table = config.Engine(ds_config=name, precision=precision)
    joined = join_config(table, 1.0, Batch(64, 8), world=2)
    assert joined["train_batch_size"] == 64
    assert joined["gradient_accumulation_steps"] == 4
    assert joined["bf16"] == {"enabled": precision == "bf16"}
    alone = join_config(table, 1.0, Batch(64, 8), world=1)
    assert DeepSpeedConfig(alone).gradient_accumulation_steps == 8  # DeepSpeed's own checks pass
    if joined["zero_optimization"]["stage"] == 3:  # else an export is empty or differs
        assert joined["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
        assert joined["zero_optimization"]["memory_efficient_linear"] is False


def test_compiled_code_and_stage_3_are_refused() -> None:
    compiled = {name: config.Engine(ds_config=name, compile=True) for name in ("zero2", "zero3")}
    assert join_config(compiled["zero2"], 1.0, Batch(8, 8), world=1)
    with pytest.raises(RecipeError, match=r'ds_config = "zero3".*"zero1" or "zero2"'):
        join_config(compiled["zero3"], 1.0, Batch(8, 8), world=1)


def test_no_clipping_by_deepspeed_where_the_engine_clips() -> None:
    def clipping(name: str, precision: Literal["fp32", "bf16"], norm: float) -> object:
        table = config.Engine(ds_config=name, precision=precision)
        return join_config(table, norm, Batch(8, 8), world=1)["gradient_clipping"]

    assert clipping("zero0", "fp32", 0.5) == 0.0
    assert clipping("zero0", "bf16", 0.5) == 0.5
    assert clipping("zero1", "fp32", 0.5) == 0.5
    assert clipping("zero1", "fp32", 0.0) == 0.0


@pytest.mark.parametrize("key", RECIPE_FACTS)
def test_a_policy_that_repeats_a_recipe_fact_is_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 1}, key: 1}))
    with pytest.raises(RecipeError, match=rf"sets {key}, which the recipe decides"):
        read_ds_config(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must hold a JSON object"),
        ({"zero_optimization": 3}, r"must be a table whose stage is 0, 1, 2 or 3; it is 3$"),
        ({"zero_optimization": {"stage": 4}}, r'it is \{"stage": 4\}'),
        ({"zero_optimization": {"stage": 1, "compute_grad_norm": False}}, "need the gradient norm"),
    ],
)
def test_policies_the_engine_cannot_work_with(
    content: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=message):
        read_ds_config(str(path))


def test_unknown_missing_and_broken_policies(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'zero9'.*cpu, zero0, zero1"):
        read_ds_config("zero9")
    with pytest.raises(RecipeError, match="No such file"):
        read_ds_config(str(tmp_path / "absent.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RecipeError, match="not valid JSON"):
        read_ds_config(str(tmp_path / "broken.json"))
