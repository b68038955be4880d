"""`python -m pretrain` with one technique taken away or replaced, for gpu_pretrain.py.

    python benchmarks/gpu_variants.py VARIANT RECIPE [key.path=value ...]

padded         one document a row: the first of each sample, the rest of the row is padding
masked-sdpa    sdpa over whole rows with a block mask in place of variable-length attention
dense-batches  the dense batches that CPUs have
whole-head     the head on all tokens, not on the targets alone
foreach-adamw  AdamW by foreach kernels, not by the fused one
cuda-graphs    compiled with CUDA graphs (torch.compile's mode "reduce-overhead")
profile        as it is; the kernels of three steps go to OUTPUT/profile.txt
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import adamw

from data_prep.shards import Rows
from pretrain import __main__ as command
from pretrain import batches
from pretrain import masker as masking
from pretrain.budget import Portion
from pretrain.micro_batch import MicroBatch
from pretrain.model import attention, execution
from pretrain.model.objective import IGNORED
from runtime import engine
from runtime.optimizers import adamw as rule

PROFILED = range(8, 11)  # steps


def padded() -> None:
    """Keep the first document of each sample."""
    whole = masking.Masker.micro_batch

    def first_only(self: masking.Masker, rows: Rows, keys: Any, progress: float) -> MicroBatch:
        starts = np.cumsum(rows.counts) - rows.counts
        lengths = rows.lengths[starts]
        places = np.arange(rows.tokens.shape[1])
        pad = self.corpus.tokenizer.pad_id
        tokens = np.where(places < lengths[:, None], rows.tokens, pad).astype(rows.tokens.dtype)
        ones = np.ones_like(rows.counts)
        kept = replace(
            rows, tokens=tokens, counts=ones, lengths=lengths, documents=rows.documents[starts]
        )
        return whole(self, kept, keys, progress)

    masking.Masker.micro_batch = first_only  # type: ignore[method-assign]


def masked_sdpa() -> None:
    """All pairs of a row's tokens are scored, those of two documents masked."""

    def in_rows(
        q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None, at: Any
    ) -> Tensor:
        # rows end where a segment ends, which each multiple of the longest row does
        length = row_length(at.lengths)
        rows = len(q) // length
        mask = mask_of(at, window, length, q.device)
        parts = [
            states.view(rows, length, *states.shape[1:]).transpose(1, 2) for states in (q, k, v)
        ]
        mixed = functional.scaled_dot_product_attention(*parts, attn_mask=mask, scale=scaling)
        return mixed.transpose(1, 2).reshape(q.shape)

    masks: dict[int | None, Tensor] = {}  # by window
    last: list[Any] = []

    def mask_of(at: Any, window: int | None, length: int, device: torch.device) -> Tensor:
        if not last or last[0] is not at:
            last[:] = [at]
            masks.clear()
        if window not in masks:
            counts = torch.from_numpy(np.repeat(np.arange(len(at.lengths)), at.lengths)).to(device)
            of = counts.view(-1, length)
            same = of[:, :, None] == of[:, None, :]
            if window is not None:
                places = torch.arange(length, device=device)
                same &= (places[:, None] - places[None, :]).abs() <= window
            masks[window] = same[:, None]
        return masks[window]

    attention.has_variable_length = lambda q, dropout: not dropout
    attention.by_variable_length = in_rows
    if not torch.cuda.is_available():  # to be tried without a GPU
        attention.in_dense_batches = lambda q, k, v, scaling, dropout, window, at: in_rows(
            q, k, v, scaling, window, at
        )


def row_length(lengths: np.ndarray) -> int:
    """The samples' length: the smallest sum of first segments at whose multiples all rows end."""
    ends = np.cumsum(lengths)
    known = set(ends.tolist())
    total = int(ends[-1])
    for end in ends.tolist():
        if total % end == 0 and all(multiple in known for multiple in range(end, total, end)):
            return int(end)
    raise AssertionError("no row length fits")


def dense_batches() -> None:
    attention.has_variable_length = lambda q, dropout: False


def whole_head() -> None:
    """Every token is a position of the head; those that are no targets are ignored by the loss."""
    usual = batches.MixtureBatches.micro_batch

    def everywhere(
        self: batches.MixtureBatches, portion: Portion, start: int, count: int
    ) -> MicroBatch:
        made = usual(self, portion, start, count)
        num_tokens = made.inputs["input_ids"].shape[1]
        targets = torch.full((num_tokens,), IGNORED)
        positions = made.inputs["positions"][: made.num_targets]
        targets[positions] = made.inputs["targets"][: made.num_targets]
        inputs = made.inputs | {"positions": torch.arange(num_tokens), "targets": targets}
        return MicroBatch(inputs, made.num_targets, made.num_tokens)

    batches.MixtureBatches.micro_batch = everywhere  # type: ignore[method-assign]


def foreach_adamw() -> None:
    def by_foreach(*arguments: Any, fused: bool, **settings: Any) -> None:
        on_device = torch.cuda.is_available()  # where the counts of steps are, too
        adamw.adamw(*arguments, foreach=True, capturable=on_device, **settings)

    rule.adamw = by_foreach  # type: ignore[attr-defined]


def cuda_graphs() -> None:
    def compile_encoder(model: Any) -> None:
        model.base_model.compile(dynamic=False, mode="reduce-overhead")

    execution.compile_encoder = compile_encoder  # type: ignore[assignment]


def profile() -> None:
    """Record three steps."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler = torch.profiler.profile(activities=activities)
    begin, step = engine.Engine.begin_step, engine.Engine.step
    count = 0

    def begin_step(self: engine.Engine, num_micro_batches: int) -> None:
        nonlocal count
        count += 1
        if count == first:
            profiler.start()
        begin(self, num_micro_batches)

    def end_step(self: engine.Engine, *arguments: Any) -> float:
        norm = step(self, *arguments)
        if count == last:
            profiler.stop()
            key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
            table = profiler.key_averages().table(
                sort_by=key, row_limit=40, max_name_column_width=90
            )
            (output_of(sys.argv[1]) / "profile.txt").write_text(table, encoding="utf-8")
        return norm

    first, last = (PROFILED[0], PROFILED[-1]) if torch.cuda.is_available() else (2, 4)
    engine.Engine.begin_step = begin_step  # type: ignore[method-assign]
    engine.Engine.step = end_step  # type: ignore[method-assign]


def output_of(recipe: str) -> Path:
    from pretrain.config import Recipe
    from runtime import recipe as recipes

    return Path(recipes.load(Path(recipe), [], Recipe).output)


VARIANTS = {
    "padded": padded,
    "masked-sdpa": masked_sdpa,
    "dense-batches": dense_batches,
    "whole-head": whole_head,
    "foreach-adamw": foreach_adamw,
    "cuda-graphs": cuda_graphs,
    "profile": profile,
}


if __name__ == "__main__":
    variant = sys.argv.pop(1)
    VARIANTS[variant]()
    sys.exit(command.main())
