"""A small corpus of two domains, prepared by the real data stage, and a recipe to pretrain on
it."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks import ROOT

RECIPE = """
name = "tiny"
output = "run"
[sources.plants]
reader = "jsonl"
path = "plants.jsonl"
[sources.ships]
reader = "jsonl"
path = "ships.jsonl"
[tokenizer]
vocab_size = 448
[packing]
sequence_length = 64
valid_share = 0.1
[model]
num_layers = 3
hidden_size = 32
num_heads = 2
intermediate_size = 48
local_window = 16
dropout = 0.1
[train]
total_tokens = 12288        # 12 steps
global_batch_size = 16
micro_batch_size = 4
evaluate_every_steps = 6
validation_samples = 8
[optimizer]
learning_rate = 3e-3
[engine]
precision = "fp32"          # a CPU without instructions for bf16 takes ten times as long in it
threads_per_rank = 1
[checkpoint]
interval_steps = 4
keep_last = 3
[track]
interval_steps = 1
"""
WORDS = {
    "plants": "moss fern oak leaf root seed bloom petal bark stem grows in the shade of a",
    "ships": "hull mast sail keel anchor deck harbour crew tide wind leaves from the port of",
}


def write_corpus(folder: Path) -> None:
    """Sentences of each domain's own words, the same on every machine."""
    for name, words in WORDS.items():
        rng = random.Random(name)
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(400):
                text = " ".join(rng.choices(words.split(), k=rng.randint(10, 90)))
                file.write(json.dumps({"id": str(number), "text": text}) + "\n")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe.toml and finished shards in run/data; copied by `workplace`."""
    folder = tmp_path_factory.mktemp("prepared")
    write_corpus(folder)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", "recipe.toml", "launch.workers=1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def workplace(prepared: Path, tmp_path: Path) -> Path:
    """A private copy of the prepared folder."""
    folder = tmp_path / "workplace"
    shutil.copytree(prepared, folder)
    return folder
