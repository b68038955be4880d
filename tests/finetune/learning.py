"""Train a tiny model on rows in a second and let it answer: a plug-in's functions together."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from finetune.encoder import load_tokenizer
from finetune.heads import Objective, build
from finetune.losses import num_targets
from finetune.task import Dataset

LENGTH = 24  # tokens
STEPS = 300
SPREAD = 20.0  # times what the encoder was initialized with


def answers(
    plugin: ModuleType, train: Dataset, params: Any, encoder: Path, inputs: Sequence[Any]
) -> list[dict[str, Any]]:
    """What a model fine-tuned on these rows says of inputs."""
    tokenizer, _ = load_tokenizer(encoder)
    labels = plugin.label_set(train, params)
    table = plugin.loss(train, labels, params)
    windows = plugin.encode(train, tokenizer, labels, params, LENGTH).windows
    torch.manual_seed(1)
    objective = Objective(build(encoder, plugin.HEAD, labels, False), plugin.HEAD, table)
    with torch.no_grad():  # words that are hardly told apart are learnt late, or not at all
        objective.model.get_input_embeddings().weight.mul_(SPREAD)
    objective.pack(False)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        batch = [windows[i] for i in rng.integers(len(windows), size=16)]
        loss, _ = objective(**objective.inputs(batch))
        optimizer.zero_grad()
        (loss / sum(num_targets(window.targets) for window in batch)).backward()
        optimizer.step()
    objective.eval()
    asked = plugin.from_inputs(inputs, params)
    encoded = plugin.encode(asked, tokenizer, labels, params, LENGTH)
    with torch.no_grad():
        logits = [objective(**objective.inputs([w]))[1].numpy() for w in encoded.windows]
    found = plugin.decode(asked, encoded, logits, labels, table.decoding)
    return [plugin.answer(*pair, labels) for pair in zip(asked.rows, found, strict=True)]
