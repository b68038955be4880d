"""A recipe whose stages take seconds, and the command that runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

RECIPE = """
name = "tiny"
output = "{folder}/run"

[launch]
ranks = 2
workers = 1

[sources.a]
reader = "jsonl"
domain = "weather"
path = "{folder}/a.jsonl"

[tokenizer]
vocab_size = 448

[packing]
sequence_length = 32
valid_share = 0.2

[model]
num_layers = 2
hidden_size = 32
num_heads = 2
intermediate_size = 48
local_window = 16

[train]
total_tokens = 2048
global_batch_size = 8
micro_batch_size = 4
evaluate_every_steps = 4

[engine]
precision = "fp32"

[track]
interval_steps = 2

[tasks.mood]
kind = "classification"
train = "{folder}/mood.jsonl"
valid = "{folder}/mood.jsonl"
epochs = 1
max_length = 16
control_random_init = false
"""
WORDS = ("rain", "sun", "wind", "snow", "cloud", "storm", "fog", "hail", "breeze", "frost")


def write(folder: Path) -> Path:
    """The recipe, and its data beside it."""
    texts = [
        " ".join(
            f"the {WORDS[(i + j) % 10]} over {WORDS[(i * j + 3) % 10]} hills," for j in range(8)
        )
        for i in range(1, 200)
    ]
    rows = [{"text": f"{text} {number}"} for number, text in enumerate(texts)]
    labelled = [{"text": row["text"], "label": "ab"[i % 2]} for i, row in enumerate(rows[:16])]
    for name, found in (("a", rows), ("mood", labelled)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found))
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(folder=folder))
    return path


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the `textmill` command."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch", *map(str, arguments)],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def textmill(*arguments: str | Path) -> tuple[int, str]:
    """Its exit code and what it has printed."""
    return ended(start(*arguments))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How a command ended, and what it has printed; one that does not end is killed."""
    try:
        output, _ = process.communicate(timeout=400)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output
