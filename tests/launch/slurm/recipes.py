"""Recipes of the tests about batch files."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.config import Recipe
from launch.slurm import batch_files
from launch.slurm.batch_files import Place

STAGES = batch_files.STAGES
TEXT = """
name = "english"
output = "runs/english"
[sources.wiki]
reader = "jsonl"
path = "wiki.jsonl"
[model]
num_layers = 2
[train]
total_tokens = 100_000
global_batch_size = 64
micro_batch_size = 4
[tasks.mood]
kind = "classification"
train = "mood.jsonl"
valid = "mood.jsonl"
"""
BARE = {"python": "/venv/bin/python"}
LARGE = {
    "partition": "gpu",
    "cpu_partition": "cpu",
    "account": "team_7",
    "qos": "high",
    "reservation": "friday",
    "constraint": "a100&ib",
    "nodes": 4,
    "gpus_per_node": 8,
    "gpu_type": "a100",
    "cpus_per_rank": 12,
    "memory_mb": 900_000,
    "data_prep_cpus": 32,
    "data_prep_memory_mb": 64_000,
    "finetune_at_once": 8,
    "exclusive": True,
    "minutes": {"data_prep": 720, "pretrain": 2880, "finetune": 600},
    "warn_seconds": 300,
    "requeues": 20,
    "mail_user": "ann@example.org",
    "setup": ["module load cuda/12.4", "export NCCL_DEBUG=WARN"],
    "options": {"comment": "first try", "hold": True, "nice": 100},
}
PYXIS = {
    "gpus_per_node": 2,
    "container": {
        "kind": "pyxis",
        "image": "nvcr.io#nvidia/pytorch:24.01-py3",
        "mounts": ["/data", "/scratch:/tmp/scratch:ro"],
    },
}
APPTAINER = {
    "gpus_per_node": 2,
    "container": {"kind": "apptainer", "image": "/images/torch.sif", "mounts": ["/data"]},
}


def recipe_of(slurm: Mapping[str, Any], **tables: Any) -> Recipe:
    """The recipe with a [slurm] table, checked as it would be in a file."""
    return Recipe.model_validate_json(
        json.dumps({**tomllib.loads(TEXT), **tables, "slurm": dict(slurm)})
    )


def rendered(
    slurm: Mapping[str, Any],
    place: Place | None = None,
    tasks: Sequence[str] = ("mood",),
    **tables: Any,
) -> dict[str, str]:
    place = place or Place(Path("/home/ann/textmill"), Path("/home/ann/textmill/runs/english"))
    return batch_files.rendered(recipe_of(slurm, **tables), STAGES, place, tasks)
