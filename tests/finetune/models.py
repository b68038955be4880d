"""Small task models trained in a second, without the engine, exported as runs export them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from finetune import encoder, single
from finetune.config import Recipe
from finetune.heads import Objective
from finetune.losses import num_targets
from finetune.prepare import Prepared, prepare
from runtime import provenance, recipe
from tests.finetune.conftest import write_encoder, write_workplace

DOCUMENTS = ('tasks.people.documents="file"', 'tasks.people.context="document"')
TABLES = """
[tasks.order]
kind = "classification"
train = "pairs.jsonl"
valid = "pairs.jsonl"
text_pair_field = "second"
encoder = "encoder"
[tasks.topics]
kind = "multilabel"
train = "topics.jsonl"
valid = "topics.jsonl"
encoder = "encoder"
[tasks.length]
kind = "regression"
train = "topics.jsonl"
valid = "topics.jsonl"
label_field = "length"
encoder = "encoder"
"""


def write_tasks(folder: Path) -> Path:
    """A workplace with one task of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    write_workplace(folder, write_encoder(folder / "encoder"))
    text = (folder / "recipe.toml").read_text().replace("[export]", f"{TABLES}[export]")
    for name in (
        "encoder",
        *(f"{s}.{e}" for s in ("train", "valid", "test") for e in ("conll", "jsonl")),
    ):
        text = text.replace(f'"{name}"', f'"{folder / name}"')
    for name in ("pairs", "topics"):
        text = text.replace(f'"{name}.jsonl"', f'"{folder / name}.jsonl"')
    (folder / "recipe.toml").write_text(text)
    rng = random.Random(3)
    pairs, topics = [], []
    for _ in range(48):
        first, second = rng.choices(["oslo", "paris", "rome", "lima"], k=2)
        label = "north" if second in ("oslo", "paris") else "south"
        pairs.append({"text": f"ada met {first}", "second": second, "label": label})
        words = rng.sample(["good", "bad", "film", "play"], rng.randrange(4))
        labels = sorted(set(words) & {"good", "film"})
        topics.append({"text": " ".join(["the", *words]), "labels": labels, "length": len(words)})
    for name, rows in (("pairs", pairs), ("topics", topics)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def train(workplace: Path, task: str, overrides: Sequence[str] = (), steps: int = 60) -> Path:
    """Train a task of the workplace's recipe; its export folder."""
    prepared = prepare(recipe.load(workplace / "recipe.toml", overrides, Recipe), task)
    torch.manual_seed(1)
    objective = single.objective(prepared, is_random=False)
    objective.pack(False)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=5e-3)
    windows = prepared.encoded["train"].windows
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = [windows[i] for i in rng.integers(len(windows), size=16)]
        loss, _ = objective(**objective.inputs(batch))
        optimizer.zero_grad()
        (loss / sum(num_targets(window.targets) for window in batch)).backward()
        optimizer.step()
    return export(prepared, objective.eval(), workplace / task)


@torch.no_grad()
def export(prepared: Prepared, objective: Objective, folder: Path) -> Path:
    """The folder of a model with decoding calibrated on valid."""
    decoding = dict(prepared.loss.decoding)
    if (chain := objective.loss.chain) is not None:
        learnt = chain.transitions(dict(chain.named_parameters()))
        decoding["transitions"] = {name: values.tolist() for name, values in learnt.items()}
    data, encoded = prepared.data["valid"], prepared.encoded["valid"]
    logits = [objective(**objective.inputs([each]))[1].numpy() for each in encoded.windows]
    fitted = prepared.plugin.calibrate(data, encoded, logits, prepared.labels, decoding)
    state = {name: value.detach() for name, value in objective.model.named_parameters()}
    with objective.exported(state) as whole:
        objective.model.save_pretrained(folder, state_dict=whole)
    encoder.copy_tokenizer(prepared.encoder.folder, folder)
    tokenizer = prepared.encoder.tokenizer_fingerprint
    facts = {**single.model_facts(prepared, fitted), "tokenizer": tokenizer}
    provenance.write_json(folder / "textmill.json", facts)
    return folder
