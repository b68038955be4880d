"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum, orthogonalized.

The update of a matrix is its Nesterov momentum with all singular values brought near 1 by five
Newton-Schulz iterations, times sqrt(max(1, rows / columns)); its learning rate is therefore of
another scale than AdamW's (`optimizer.muon_learning_rate`). It is for the matrices of the repeated
layers; embeddings, heads, norms and biases go by AdamW. Query, key and value that a model keeps in
one matrix are orthogonalized as one.

DeepSpeed's own Muon is not used: it orthogonalizes before the gradient norm is computed, so that
what is clipped, logged and judged is the norm of the updates, not of the gradient. Here the ranks
send the shares of a matrix to the one rank that works on it, and get theirs back.
"""

import math

import torch
from torch import Tensor

from runtime.optimizers.sharded import Group, State
from runtime.optimizers.shares import Layout

# Of the quintic iteration: they raise small singular values fastest, and end between 0.7 and 1.2.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Muon:
    """The rule `muon`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype  # of the matrix products

    def prepare(self, state: State, tensor: Tensor) -> None:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
            state["exp_avg"] = torch.zeros_like(tensor, memory_format=torch.preserve_format)
        # The conversion to other world sizes wants this name too; it costs no memory of its own.
        state["exp_avg_sq"] = state["exp_avg"]

    def update(
        self, tensors: list[Tensor], states: list[State], group: Group, layout: Layout
    ) -> None:
        momentum = group["momentum"]
        for tensor, state in zip(tensors, states, strict=True):
            assert tensor.grad is not None
            state["step"] += 1
            state["exp_avg"].lerp_(tensor.grad, 1 - momentum)
            update = tensor.grad.lerp_(state["exp_avg"], momentum)
            whole = layout.assembled(tensor, update)
            whole = {n: self.orthogonalized(matrix) for n, matrix in whole.items()}
            layout.returned(tensor, whole, update)
            tensor.mul_(1 - group["lr"] * group["weight_decay"])
            tensor.add_(update, alpha=-group["lr"])

    def orthogonalized(self, matrix: Tensor) -> Tensor:
        """Near U V^T of the matrix's singular value decomposition U S V^T, scaled by its shape."""
        rows, columns = matrix.shape
        product: Tensor = matrix.to(self.dtype)
        product = product.T if rows > columns else product
        product = product / product.norm().clamp(min=1e-7)
        for _ in range(ITERATIONS):
            gram = product @ product.T
            product = A * product + (B * gram + C * gram @ gram) @ product
        product = product.T if rows > columns else product
        scale = math.sqrt(max(1.0, rows / columns))
        return product.to(matrix.dtype).contiguous().mul_(scale)
