"""How DeepSpeed has laid the parameters out in the tensors it hands to our optimizer.

Reads private attributes of DeepSpeed's wrappers (pinned by range), in this one place. Without ZeRO
the tensors are the parameters, or fp32 copies of them, themselves.
"""

from typing import Any

from torch import Tensor, nn

from runtime import processes
from runtime.optimizers.groups import full_shape
from runtime.optimizers.shares import Layout, Share


def layout_of(optimizer: Any, module: nn.Module, stage: int) -> Layout:
    """The layout of the tensors in `optimizer`, DeepSpeed's wrapper or our own optimizer. All
    ranks call it."""
    number = {id(parameter): i for i, parameter in enumerate(module.parameters())}
    if stage == 3:
        tensors = list(optimizer.fp32_partitioned_groups_flat)
        shares = [equal_parts(group, number) for group in optimizer.fp16_groups]
    elif stage > 0:
        tensors = list(optimizer.single_partition_of_fp32_groups)
        shares = [cut_where_ranks_meet(group, number) for group in optimizer.bit16_groups]
    else:
        tensors = [tensor for _, tensor in masters(optimizer)]
        shares = [
            [Share(number[id(parameter)], full_shape(parameter), 0, 0, parameter.numel())]
            for parameter, _ in masters(optimizer)
        ]
    return Layout(tensors, shares, sharded=stage > 0)


def masters(optimizer: Any) -> list[tuple[nn.Parameter, Tensor]]:
    """Without ZeRO: each parameter and the fp32 tensor that is updated in its place."""
    if not hasattr(optimizer, "fp32_groups"):
        return [(p, p) for group in optimizer.param_groups for p in group["params"]]
    pairs = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
    return [pair for low, high in pairs for pair in zip(low, high, strict=True)]


def cut_where_ranks_meet(parameters: list[nn.Parameter], number: dict[int, int]) -> list[Share]:
    """Stages 1 and 2: parameters one after the other; a rank holds a run of the whole."""
    shares = []
    for parameter in parameters:
        mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is not None:  # else the parameter lies on other ranks
            here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
            shares.append(
                Share(
                    number[id(parameter)],
                    full_shape(parameter),
                    there.start,
                    here.start,
                    here.numel,
                )
            )
    return shares


def equal_parts(parameters: list[nn.Parameter], number: dict[int, int]) -> list[Share]:
    """Stage 3: an equal part of each parameter on every rank, the last ones padded."""
    shares, offset = [], 0
    for parameter in parameters:
        part = parameter.ds_tensor.ds_numel  # type: ignore[attr-defined]
        start = processes.rank() * part
        length = min(part, parameter.ds_numel - start)  # type: ignore[attr-defined]
        if length > 0:
            shape = full_shape(parameter)
            shares.append(Share(number[id(parameter)], shape, start, offset, length))
        offset += part
    return shares
