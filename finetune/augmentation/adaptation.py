"""A language model adapted to a task's training rows, for some steps, on the CPU.

For augmentation only: the models that fill in words or write rows. Always the same for the same
rows: one thread, and random numbers of its own, so that nobody else's are touched.
"""

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from finetune.augmentation.apart import apart

BATCH = 16  # rows a step
GRADIENT_NORM = 1.0

Item = TypeVar("Item")


def adapt(
    model: Any,
    items: list[Item],
    loss_of: Callable[[list[Item], Random], Any],
    steps: int,
    learning_rate: float,
) -> None:
    """Train a model with AdamW and a rate that falls linearly to nothing.

    `loss_of(items of a step, rng)` is the loss of a step. Every item is seen once before any is
    seen again.
    """
    import torch

    with apart():
        rng = Random(0)
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        waiting: list[Item] = []
        for step in range(steps if items else 0):
            if not waiting:
                waiting = rng.sample(items, len(items))
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (1 - step / steps)
            loss_of(batch, rng).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
