"""What a recipe will ask of the machines, as far as it can be told without torch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.doctor.plan import Batch, Job
from runtime import retention, stages
from runtime.config import Recipe
from runtime.slurm import SlurmJobs

FEED_FORWARD_MATRICES = 3  # of a gated layer; others have two
ATTENTION_MATRICES = 4
FP32_BYTES = 4
LIGHT_STAGES = ("data_prep", "evaluate")  # jobs that need no devices


def job_of(path: Path, recipe: Recipe) -> Job:
    """The facts of a recipe that the checks need."""
    asks = recipe.launch.launcher == "slurm" or "slurm" in recipe.model_fields_set
    asked = recipe.slurm if asks else None
    return Job(
        recipe=str(path.absolute()),
        output=str(recipe.output.absolute()),
        ds_config=recipe.engine.ds_config,
        threads_per_rank=recipe.engine.threads_per_rank or (asked.cpus_per_rank if asked else None),
        batches=tuple(batches(recipe)),
        disk_bytes=disk_bytes(recipe),
        num_nodes=asked.nodes if asked else None,
        num_devices=asked.gpus_per_node if asked else None,
        ranks_per_node=asked.num_ranks_per_node if asked else None,
        partition=asked.partition if asked else None,
        limits=limits(asked) if asked else {},
    )


def limits(asked: SlurmJobs) -> dict[str, dict[str, int]]:
    """The time that each job asks for, by partition."""
    found: dict[str, dict[str, int]] = {}
    for stage, minutes in asked.minutes:
        is_light = stage in LIGHT_STAGES and asked.cpu_partition is not None
        chosen = asked.cpu_partition if is_light else asked.partition
        table = found.setdefault(chosen or "", {})
        if minutes is not None:
            table[f"slurm.minutes.{stage}"] = minutes
    return found


def batches(recipe: Any) -> Iterator[Batch]:
    """Of pretraining, which must be a multiple of micro batch times ranks."""
    train = getattr(recipe, "train", None)
    if recipe.model is None or train is None:
        return
    for key in ("global_batch_size", "ramp_from"):
        size = getattr(train, key)
        if size is not None:
            yield Batch(f"train.{key}", size, train.micro_batch_size)


def disk_bytes(recipe: Any) -> int:
    """What checkpoints and exports will take beside what is there; 0 if that cannot be told."""
    if recipe.model is None or recipe.train is None:
        return 0
    folder = stages.folder(recipe.output, "pretrain") / "checkpoints"
    table = recipe.checkpoint
    count = table.keep_last + int(table.keep_best) + 1  # one more while it is written
    exports = 1 + len(recipe.train.export_at)
    each = count * retention.BYTES_PER_PARAMETER + exports * retention.EXPORT_BYTES_PER_PARAMETER
    there = retention.num_bytes(folder) if folder.is_dir() else 0
    return max(0, num_parameters(recipe) * int(each) - there)


def num_parameters(recipe: Any) -> int:
    """Of the encoder, to about a tenth; 0 if it is a model of the hub."""
    model = recipe.model
    if model.checkpoint is not None:
        weights = Path(str(model.checkpoint)).glob("*.safetensors")
        return int(sum(path.stat().st_size for path in weights) // FP32_BYTES)
    hidden = int(model.hidden_size)
    layer = ATTENTION_MATRICES * hidden**2
    layer += FEED_FORWARD_MATRICES * hidden * int(model.intermediate_size)
    return int(model.num_layers) * layer + vocab_size(recipe) * hidden


def vocab_size(recipe: Any) -> int:
    """As the shards say, where there are any."""
    manifest = stages.folder(recipe.output, "data_prep") / stages.MANIFEST
    try:
        return int(json.loads(manifest.read_text(encoding="utf-8"))["tokenizer"]["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return int(recipe.tokenizer.vocab_size)
