"""Run by test_engine.py on each rank: a few steps of a small model, parameters written by rank
0."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from runtime import config, processes
from runtime.engine import Batch, Engine

SAMPLES, LENGTH, STEPS = 8, 16, 3


class Summed(nn.Module):
    """A masked-LM loss summed over its targets."""

    def __init__(self) -> None:
        super().__init__()
        self.model = BertForMaskedLM._from_config(
            BertConfig(
                vocab_size=64,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=48,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(input_ids=input_ids).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return (loss,)


def main(ds_config: str, micro_size: int, output: Path) -> None:
    processes.start(60)
    table = config.Engine(ds_config=ds_config, precision="fp32")
    optimizer = config.Optimizer(learning_rate=1e-2, clip_norm=1.0)
    engine = Engine(Summed, table, optimizer, Batch(SAMPLES, micro_size), seed=5)
    rank, world = processes.rank(), processes.world_size()
    losses = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 64, (SAMPLES, LENGTH), generator=generator)
        labels = torch.randint(0, 64, (SAMPLES, LENGTH), generator=generator)
        # samples have very different numbers of targets: a mean of means would differ
        keep = torch.arange(LENGTH) < torch.arange(1, SAMPLES + 1)[:, None] * 2
        labels = torch.where(keep, labels, torch.tensor(-100))
        loss_sum = 0.0
        for start in range(rank * micro_size, SAMPLES, micro_size * world):
            part = slice(start, start + micro_size)
            inputs = {"input_ids": ids[part], "labels": labels[part]}
            loss_sum += engine.accumulate(inputs, keep.sum().item()).item()
        norm = engine.step(1e-2)
        losses.append((processes.sum_over_ranks([loss_sum])[0], norm))
    parameters = engine.full_parameters()
    if parameters is not None:
        torch.save({"losses": losses, "parameters": parameters}, output)
    processes.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
