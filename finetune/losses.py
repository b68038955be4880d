"""Losses of task heads, summed over the targets in fp32.

A target is one known label: of a class, a tag, or a value of a (text, label) pair. Sums are divided
by the plain number of targets of a step, whatever their weights: so the split over ranks and micro
batches cannot change an update, and a class weight means the same in every batch. (torch's weighted
mean divides by the weights of a batch, which undoes them where a batch holds one class.) Weights
whose mean over the training targets is 1, such as scikit-learn's "balanced", leave the size of the
loss as it is. In a binary loss a weight is that of a yes; a no weighs 1. A squared error is that of
numbers in deviations of the training rows, which `decoding` names.
"""

# N scored outputs  L labels  W windows  P positions of the longest window

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from finetune.ner.tags import FORBIDDEN
from finetune.task import IGNORED, Loss

PARTS = ("start", "between", "end")


def num_targets(targets: NDArray[Any]) -> int:
    """Known labels among targets as in `Window`."""
    is_known = ~np.isnan(targets) if targets.dtype.kind == "f" else targets != IGNORED
    return int(is_known.sum())


class SummedLoss(nn.Module):
    """What a `Loss` table says, as a module: a CRF has parameters of its own."""

    def __init__(self, table: Loss, num_labels: int) -> None:
        super().__init__()
        self.table = table
        weights = table.class_weights
        if weights is not None and len(weights) != num_labels:
            raise ValueError(f"{len(weights)} class weights for {num_labels} labels")
        self.weights = None if weights is None else np.array(weights, dtype=np.float32)
        # Numbers are learnt in training deviations from the training mean.
        self.centre = float(table.decoding.get("mean", 0.0))
        self.scale = float(table.decoding.get("deviation", 1.0))
        self.chain = None
        if table.kind == "crf":
            self.chain = Chain(num_labels, table.decoding.get("transitions"))

    def forward(self, scored: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """scored (N, L) fp32; targets as in `Window`; lengths (W,) outputs of each window."""
        if self.chain is not None:
            return self.chain(scored, targets, lengths)  # type: ignore[no-any-return]
        weights = None if self.weights is None else scored.new_tensor(self.weights)
        if self.table.kind == "cross_entropy":
            return functional.cross_entropy(
                scored, targets, weights, ignore_index=IGNORED, reduction="sum"
            )
        if self.table.kind == "focal":
            return focal(scored, targets, weights, self.table.gamma)
        is_known = ~targets.isnan()
        wanted = targets.nan_to_num()
        if self.table.kind == "binary":
            losses = functional.binary_cross_entropy_with_logits(
                scored, wanted, pos_weight=weights, reduction="none"
            )
        else:
            losses = (scored - (wanted - self.centre) / self.scale) ** 2
        return losses.where(is_known, 0.0).sum()


def focal(scored: Tensor, targets: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv 1708.02002, eq. 5): well-classified targets count less."""
    logs = scored.log_softmax(-1)
    losses = functional.nll_loss(logs, targets, weights, ignore_index=IGNORED, reduction="none")
    chosen = logs.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    missing = (-chosen.expm1()).clamp(min=torch.finfo(chosen.dtype).tiny)  # 1 - p
    return (missing**gamma * losses).sum()


class Chain(nn.Module):
    """Negative log-likelihood of tag sequences under a linear-chain CRF (Lafferty et al. 2001).

    The scored outputs of a window are one chain. A tag that is not known is summed over: it neither
    breaks the chain nor says anything.
    """

    def __init__(self, num_labels: int, initial: Mapping[str, Any] | None) -> None:
        """`initial` transitions as in `decoding`; those at FORBIDDEN or below stay as they are."""
        super().__init__()
        shapes = {"start": (num_labels,), "between": (num_labels,) * 2, "end": (num_labels,)}
        for name, shape in shapes.items():
            values = torch.zeros(shape) if initial is None else torch.tensor(initial[name]).float()
            if values.shape != shape:
                raise ValueError(f"transitions {name} {tuple(values.shape)} must be {shape}")
            self.register_parameter(name, nn.Parameter(values.clamp(min=FORBIDDEN)))
            self.register_buffer(f"{name}_fixed", values <= FORBIDDEN, persistent=False)

    def transitions(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values in force, from whole parameters by name."""
        fixed = {name: self.get_buffer(f"{name}_fixed") for name in PARTS}
        return {name: whole[name].float().masked_fill(fixed[name], FORBIDDEN) for name in PARTS}

    def forward(self, scored: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """The log of the sum over all sequences less that over those with the known tags."""
        lengths = lengths[lengths > 0]
        start, between, end = self.transitions(dict(self.named_parameters())).values()
        if len(lengths) == 0:  # nothing scored, but ranks differentiate the same parameters
            return 0.0 * (scored.sum() + start.sum() + between.sum() + end.sum())
        is_there = torch.arange(int(lengths.max()), device=scored.device) < lengths[:, None]
        is_other = torch.arange(scored.shape[1], device=scored.device) != targets[:, None]
        is_other &= (targets != IGNORED)[:, None]  # (N, L)
        known = scored.masked_fill(is_other, float("-inf"))
        emissions = scored.new_zeros(2, *is_there.shape, scored.shape[1])  # (2, W, P, L)
        emissions[:, is_there] = torch.stack([scored, known])
        free, given = self.log_sums(emissions, is_there, start, between, end)
        found: Tensor = (free - given).sum()
        return found

    def log_sums(
        self, emissions: Tensor, is_there: Tensor, start: Tensor, between: Tensor, end: Tensor
    ) -> Tensor:
        """Forward algorithm over (..., W, P, L) for all chains at once: (..., W)."""
        sums = start + emissions[..., 0, :]  # (..., W, L)
        for place in range(1, is_there.shape[1]):
            after = torch.logsumexp(sums[..., None] + between, dim=-2) + emissions[..., place, :]
            sums = torch.where(is_there[:, place, None], after, sums)
        return torch.logsumexp(sums + end, dim=-1)
