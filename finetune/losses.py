"""Losses of task heads, summed over the targets."""

# N scored outputs  L labels

import torch
from torch import Tensor, nn

from finetune.task import IGNORED, Loss


class SummedLoss(nn.Module):
    """What a `Loss` table says, as a module: a CRF has parameters of its own."""

    def __init__(self, table: Loss, num_labels: int) -> None:
        super().__init__()
        self.table = table

    def forward(self, scored: Tensor, targets: Tensor) -> Tensor:
        """scored (N, L) fp32; targets as in `Window`."""
        return nn.functional.cross_entropy(scored, targets, ignore_index=IGNORED, reduction="sum")


def as_tensor(targets: object) -> Tensor:
    return torch.as_tensor(targets)
