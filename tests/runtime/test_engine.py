"""The engine: batch algebra, engine policy against recipe facts, and split-independent updates."""

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from deepspeed import DeepSpeedConfig

from runtime import config
from runtime.ds_config import RECIPE_FACTS, Batch, join_config, read_ds_config
from runtime.errors import RecipeError
from tests.ranks import run_ranks

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "ds_configs").glob("*.json"))


def test_accumulation_is_what_is_left_of_the_global_batch() -> None:
    assert Batch(64, 8).accumulation(world_size=2) == 4
    assert Batch(8, 8).accumulation(world_size=1) == 1


def test_impossible_batch_names_the_nearest_that_fit() -> None:
    with pytest.raises(RecipeError, match=r"1000.*16 x 8 = 128; nearest: 896 or 1024"):
        Batch(1000, 16).accumulation(world_size=8)
    with pytest.raises(RecipeError, match=r"nearest: 16$"):
        Batch(3, 8).accumulation(world_size=2)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_policy_joins_with_recipe_facts(name: str) -> None:
    precision: Literal["fp32", "bf16"] = "fp32" if name == "zero0" else "bf16"
    table = config.Engine(ds_config=name, precision=precision)
    joined = join_config(table, 1.0, Batch(64, 8), world=2)
    assert joined["train_batch_size"] == 64
    assert joined["gradient_accumulation_steps"] == 4
    assert joined["bf16"] == {"enabled": name != "zero0"}
    alone = join_config(table, 1.0, Batch(64, 8), world=1)
    assert DeepSpeedConfig(alone).gradient_accumulation_steps == 8  # DeepSpeed's own checks pass
    if joined["zero_optimization"]["stage"] == 3:  # else an export is empty or differs
        assert joined["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
        assert joined["zero_optimization"]["memory_efficient_linear"] is False


def test_bf16_under_stage_0_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'engine\.ds_config = "zero1"'):
        join_config(config.Engine(ds_config="zero0"), 1.0, Batch(8, 8), world=1)


@pytest.mark.parametrize("key", RECIPE_FACTS)
def test_a_policy_that_repeats_a_recipe_fact_is_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 1}, key: 1}))
    with pytest.raises(RecipeError, match=rf"sets {key}, which the recipe decides"):
        read_ds_config(str(path))


def test_unknown_missing_and_broken_policies(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'zero9'.*cpu, zero0, zero1"):
        read_ds_config("zero9")
    with pytest.raises(RecipeError, match="No such file"):
        read_ds_config(str(tmp_path / "absent.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RecipeError, match="not valid JSON"):
        read_ds_config(str(tmp_path / "broken.json"))


@pytest.mark.distributed
@pytest.mark.parametrize("ds_config", ["cpu", "zero2", "zero0"])
def test_updates_do_not_depend_on_ranks_or_accumulation(ds_config: str, tmp_path: Path) -> None:
    """1 x 4, 2 x 2 and 4 x 1 (ranks x micro batches): the same losses, norms and weights."""
    script = Path(__file__).parent / "engine_ranks.py"
    results = {}
    for world in (1, 2, 4):
        output = tmp_path / f"{world}.pt"
        done = run_ranks([script, ds_config, "2", output], world, tmp_path)
        assert done.exit_codes == [0] * world, done.text
        results[world] = torch.load(output, weights_only=True)
    one = results[1]
    for world in (2, 4):
        other = results[world]
        assert all(norm > 0 for _, norm in other["losses"])
        torch.testing.assert_close(
            torch.tensor(other["losses"]), torch.tensor(one["losses"]), rtol=1e-5, atol=1e-5
        )
        assert other["parameters"].keys() == one["parameters"].keys()
        for name, value in one["parameters"].items():
            torch.testing.assert_close(other["parameters"][name], value, rtol=0, atol=2e-5)
