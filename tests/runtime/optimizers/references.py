"""Optimizers written down from their papers, one parameter at a time, to compare ours with."""

from collections.abc import Iterable

import torch
from torch import Tensor


def stable_adamw(
    parameter: Tensor,
    gradients: Iterable[Tensor],
    rates: Iterable[float],
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    """Algorithm 2 of arXiv 2304.13013, in float64."""
    theta = parameter.double()
    v = u = torch.zeros_like(theta)
    for t, (gradient, alpha) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = gradient.double()
        b1 = betas[0] * (1 - betas[0] ** (t - 1)) / (1 - betas[0] ** t)
        b2 = betas[1] * (1 - betas[1] ** (t - 1)) / (1 - betas[1] ** t)
        v = b1 * v + (1 - b1) * g
        u = b2 * u + (1 - b2) * g**2
        rms = (g**2 / u.clamp(min=eps**2)).mean().sqrt()
        eta = alpha / max(1.0, rms.item())
        theta = theta - eta * weight_decay * theta - eta * v / (u.sqrt() + eps)
    return theta


def muon(
    parameter: Tensor,
    gradients: Iterable[Tensor],
    rates: Iterable[float],
    weight_decay: float,
    momentum: float,
) -> Tensor:
    """kellerjordan.github.io/posts/muon, in float64."""
    theta = parameter.double()
    rows, columns = theta.shape
    buffer = torch.zeros_like(theta)
    for gradient, rate in zip(gradients, rates, strict=True):
        g = gradient.double()
        buffer = momentum * buffer + (1 - momentum) * g
        x = momentum * buffer + (1 - momentum) * g
        x = x.T if rows > columns else x
        x = x / x.norm()
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x = x.T if rows > columns else x
        theta = theta * (1 - rate * weight_decay) - rate * max(1, rows / columns) ** 0.5 * x
    return theta
