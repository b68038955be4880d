"""Engine policy and recipe facts: reads a ds_config and joins it with what the recipe decides.

A ds_config holds engine policy only (stage, offload, buckets). One that repeats a fact of the
recipe (batch sizes, precision, optimizer, clipping) is refused: two places for one fact end up
different.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime import config
from runtime.errors import RecipeError

# Facts of the recipe that a ds_config must not repeat.
RECIPE_FACTS = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
    "optimizer", "scheduler", "gradient_clipping", "fp16", "bf16", "torch_autocast", "data_types",
    "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "wall_clock_breakdown",
    "steps_per_print", "checkpoint",
)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Samples per optimizer step over all ranks, and samples per rank per forward."""

    global_size: int
    micro_size: int

    def accumulation(self, world_size: int) -> int:
        """Micro batches per rank and step. Raises RecipeError with the nearest values that fit."""
        portion = self.micro_size * world_size
        if self.global_size % portion:
            below = self.global_size // portion * portion
            nearest = f"{below} or {below + portion}" if below else str(portion)
            raise RecipeError(
                f"the global batch size ({self.global_size}) must be a multiple of the micro batch "
                f"size x world size = {self.micro_size} x {world_size} = {portion}; "
                f"nearest: {nearest}"
            )
        return self.global_size // portion


def read_ds_config(name: str) -> dict[str, Any]:
    """Read a ds_config by name (from ds_configs/) or path. Raises RecipeError if it cannot be
    used."""
    path = Path(name)
    if path.suffix != ".json":
        known = shipped_ds_configs()
        if name not in known:
            raise RecipeError(
                f"engine.ds_config {name!r} is neither a path ending in .json nor a name in "
                f"ds_configs/: {', '.join(sorted(known))}"
            )
        path = known[name]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read engine.ds_config {path}: {error.strerror}") from None
    except ValueError as error:
        raise RecipeError(f"engine.ds_config {path} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise RecipeError(f"engine.ds_config {path} must hold a JSON object of DeepSpeed's keys")
    repeated = [key for key in RECIPE_FACTS if key in found]
    if repeated:
        raise RecipeError(
            f"engine.ds_config {path} sets {', '.join(repeated)}, which the recipe decides; "
            "remove them there and set [train], [optimizer] or [engine] in the recipe"
        )
    check_zero(path, found.get("zero_optimization", {}))
    return found


def check_zero(path: Path, table: Any) -> None:
    """Refuse what the engine cannot work with, before any process group or model is made."""
    if not isinstance(table, dict) or table.get("stage", 0) not in (0, 1, 2, 3):
        raise RecipeError(
            f"engine.ds_config {path}: zero_optimization must be a table whose stage is 0, 1, 2 or "
            f"3; it is {json.dumps(table)}"
        )
    if table.get("compute_grad_norm") is False:
        raise RecipeError(
            f"engine.ds_config {path} sets zero_optimization.compute_grad_norm to false, but "
            "clipping, the log and the guard need the gradient norm; remove it"
        )


def shipped_ds_configs() -> dict[str, Path]:
    """The files of ds_configs/ by name, wherever Textmill is installed."""
    spec = find_spec("ds_configs")  # a folder without code: importlib.resources fails on some
    folders = spec.submodule_search_locations if spec is not None else None
    return {path.stem: path for folder in folders or () for path in Path(folder).glob("*.json")}


def join_config(table: config.Engine, clip_norm: float, batch: Batch, world: int) -> dict[str, Any]:
    """The complete DeepSpeed configuration: policy from the file, facts from the recipe.

    Raises RecipeError if the two do not go together.
    """
    accumulation = batch.accumulation(world)
    policy = read_ds_config(table.ds_config)
    is_bf16 = table.precision == "bf16"
    if table.compile and stage_of(policy) == 3:
        raise RecipeError(
            f"engine.compile does not go with ZeRO stage 3 (engine.ds_config = "
            f'"{table.ds_config}"): gathering parameters interrupts the compiled code at every '
            'layer, and it is compiled again and again; set engine.ds_config = "zero1" or "zero2", '
            "or engine.compile = false"
        )
    return {
        **policy,
        "train_batch_size": batch.global_size,
        "train_micro_batch_size_per_gpu": batch.micro_size,
        "gradient_accumulation_steps": accumulation,
        # In fp32 without ZeRO the engine clips: DeepSpeed would compute the norm again for itself.
        "gradient_clipping": clip_norm if stage_of(policy) or is_bf16 else 0.0,
        "bf16": {"enabled": is_bf16},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW is vectorised on CPU, too
        "steps_per_print": 1 << 60,
    }


def stage_of(policy: Mapping[str, Any]) -> int:
    """The ZeRO stage a ds_config asks for."""
    return int(policy.get("zero_optimization", {}).get("stage", 0))
