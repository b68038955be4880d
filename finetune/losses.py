"""Losses of task heads, summed over the targets in fp32.

A target is one known label: of a class, a tag, or a value of a (text, label) pair. Sums are divided
by the plain number of targets of a step, whatever their weights: so the split over ranks and micro
batches cannot change an update, and a class weight means the same in every batch. (torch's weighted
mean divides by the weights of a batch, which undoes them where a batch holds one class.) Weights
whose mean over the training targets is 1, such as scikit-learn's "balanced", leave the size of the
loss as it is. In a binary loss a weight is that of a yes; a no weighs 1. A squared error is that of
numbers in deviations of the training rows, which `decoding` names.
"""

# N scored outputs  L labels  W windows  P places of the longest window

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
CHUNK = 2**20  # numbers at a time of the probabilities of pairs of tags


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
        emissions = scored.new_zeros(*is_there.shape, scored.shape[1])  # (W, P, L)
        emissions[is_there] = scored
        wanted = targets.new_zeros(is_there.shape)  # (W, P)
        wanted[is_there] = targets
        steps = (start, between, end)
        found = log_sums(emissions, lengths, *steps).sum()
        is_whole = (wanted != IGNORED).all(-1)  # (W,)
        whole = log_products(emissions[is_whole], wanted[is_whole], lengths[is_whole], *steps)
        found = found - whole.sum()
        if not is_whole.all():
            tags = torch.arange(scored.shape[1], device=scored.device)
            is_other = (tags != wanted[..., None]) & (wanted != IGNORED)[..., None]  # (W, P, L)
            known = emissions.masked_fill(is_other, float("-inf"))[~is_whole]
            found = found - log_sums(known, lengths[~is_whole], *steps).sum()
        return found


def log_products(
    emissions: Tensor, tags: Tensor, lengths: Tensor, start: Tensor, between: Tensor, end: Tensor
) -> Tensor:
    """The scores (W,) of one sequence of tags (W, P) for each window."""
    is_there = torch.arange(tags.shape[1], device=tags.device) < lengths[:, None]
    chosen = emissions.gather(-1, tags[..., None])[..., 0].where(is_there, 0.0).sum(-1)
    steps = between[tags[:, :-1], tags[:, 1:]].where(is_there[:, 1:], 0.0).sum(-1)
    last = tags.gather(1, lengths[:, None] - 1)[:, 0]
    found: Tensor = start[tags[:, 0]] + chosen + steps + end[last]
    return found


def log_sums(
    emissions: Tensor, lengths: Tensor, start: Tensor, between: Tensor, end: Tensor
) -> Tensor:
    """The logs (W,) of the sums over all sequences; what stands behind a window's end is not read.

    The gradient is the forward-backward algorithm's (Rabiner 1989, section III).
    """
    found: Tensor = LogSums.apply(emissions, lengths, start, between, end)  # type: ignore[no-untyped-call]
    return found


class LogSums(torch.autograd.Function):
    """Both directions run at the same time, and only they are kept: a loop of half as many steps as
    autograd's, and (W, P, L) numbers rather than several (W, L, L) for each place."""

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, lengths: Tensor, start: Tensor, between: Tensor, end: Tensor
    ) -> Tensor:
        """Sums of all that may come before each place, from either side of a window."""
        sides = torch.stack([emissions, turned(emissions, lengths)])  # (2, W, P, L)
        steps = torch.stack([between, between.T])[:, None]  # (2, 1, L, L)
        sums = torch.stack([start, end])[:, None].expand(2, len(lengths), -1)
        before = [sums]  # (2, W, L) each
        for place in range(sides.shape[2] - 1):
            sums = torch.logsumexp((sums + sides[:, :, place])[..., None] + steps, dim=-2)
            before.append(sums)
        left, right = torch.stack(before, dim=2)  # (W, P, L)
        right = turned(right, lengths)
        # All that passes through the first place.
        whole = torch.logsumexp(left[:, 0] + emissions[:, 0] + right[:, 0], dim=-1)
        ctx.save_for_backward(emissions, lengths, between, left, right, whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Probabilities of tags and of pairs of tags, times the gradient (W,) of a window."""
        emissions, lengths, between, left, right, whole = ctx.saved_tensors
        places = torch.arange(emissions.shape[1], device=emissions.device)
        is_behind = (places >= lengths[:, None])[..., None]  # (W, P, 1)
        left = (left + emissions - whole[:, None, None]).masked_fill(is_behind, float("-inf"))
        of_tags = (left + right).exp() * grads[0][:, None, None]
        right = (right + emissions).masked_fill(is_behind, float("-inf"))
        of_pairs = torch.zeros_like(between)
        chunk = max(1, CHUNK // (len(lengths) * between.numel()))
        for first in range(1, len(places), chunk):
            there = slice(first, min(first + chunk, len(places)))
            here = slice(there.start - 1, there.stop - 1)
            pairs = left[:, here, :, None] + between + right[:, there, None]  # (W, P', L, L)
            of_pairs += torch.einsum("w,wpab->ab", grads[0], pairs.exp_())
        last = of_tags.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, of_tags.shape[-1]))
        return of_tags, None, of_tags[:, 0].sum(0), of_pairs, last.sum((0, 1))


def turned(values: Tensor, lengths: Tensor) -> Tensor:
    """The places (W, P, ...) of each window in reverse; those behind its end may hold anything."""
    places = torch.arange(values.shape[1], device=values.device)
    turned = (lengths[:, None] - 1 - places).clamp(min=0)  # (W, P)
    return values[torch.arange(len(lengths), device=values.device)[:, None], turned]
