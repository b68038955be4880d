"""Run by test_objective.py on each rank: a few updates of a masked-LM under a ds_config, without
and with layers that are computed again; rank 0 writes losses and parameters of both."""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from pretrain.model import attention
from pretrain.model.attention import segments_of
from pretrain.model.cross_entropy import IGNORED
from pretrain.model.execution import checkpoint_activations
from pretrain.model.objective import MaskedLM
from runtime import config, processes
from runtime.engine import Batch, Engine

LENGTHS = np.array([9, 30, 1, 24])
STEPS, MICRO_BATCHES, MOST_TARGETS = 3, 2, 16


def inputs(number: int) -> tuple[dict[str, object], int]:
    """Micro batch `number` of all, with its number of targets; the rest of 16 is padding."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(5, 128, (1, int(LENGTHS.sum())), generator=generator)
    count = 4 + 5 * (number % 3)
    positions = torch.zeros(MOST_TARGETS, dtype=torch.long)
    positions[:count] = torch.randperm(ids.shape[1], generator=generator)[:count]
    targets = ids[0, positions]
    targets[count:] = IGNORED
    starts = np.concatenate([np.arange(length) for length in LENGTHS])
    return {
        "input_ids": ids,
        "position_ids": torch.from_numpy(starts)[None],
        "positions": positions,
        "targets": targets,
        "segments": segments_of(LENGTHS),
    }, count


def load(folder: Path, recomputes: bool = False) -> MaskedLM:
    model = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation=attention.NAME)
    if recomputes:
        checkpoint_activations(model)
    return MaskedLM(model)


def trained(folder: Path, ds_config: str, recomputes: bool) -> dict[str, object]:
    """Loss of every step, losses of an evaluation, parameters (None but on rank 0)."""
    rank, world = processes.rank(), processes.world_size()
    table = config.Engine(ds_config=ds_config, precision="fp32")
    optimizer = config.Optimizer(learning_rate=1e-2, clip_norm=0.0)
    engine = Engine(
        lambda: load(folder, recomputes), table, optimizer, Batch(MICRO_BATCHES, 1), seed=1
    )
    losses = []
    for step in range(STEPS):
        numbers = range(step * MICRO_BATCHES, (step + 1) * MICRO_BATCHES)
        num_targets = sum(inputs(number)[1] for number in numbers)
        mine = numbers[rank::world]
        engine.begin_step(len(mine))
        loss = sum(engine.accumulate(inputs(n)[0], num_targets).item() for n in mine)
        engine.step(1e-2, lambda norm: True)
        losses.append(processes.sum_over_ranks([loss])[0] / num_targets)
    judged = engine.evaluate(inputs(99)[0])[1].tolist()
    return {"losses": losses, "judged": judged, "parameters": engine.full_parameters()}


def main(folder: Path, output: Path, ds_config: str) -> None:
    processes.start(60)
    torch.set_num_threads(1)
    results = [trained(folder, ds_config, recomputes) for recomputes in (False, True)]
    if processes.rank() == 0:
        torch.save(results, output)
    processes.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
