"""Windows as one packed row without padding, and task heads that run on the scored outputs only.

The model stays the class of transformers and is called as a whole. What its head would read of the
last hidden states is picked out where they come into being: a hook on the module that returns them
puts the states (N, 1, D) of the N scored outputs in the place of those of the whole row (1, T, D),
so that whatever follows (pooler, prediction head, classifier) sees N inputs of one token. Where
the class averages a text's states (`classifier_pooling = "mean"`), the averages are put there.

What follows attention in the last layer works on each token by itself, so it may see the scored
ones alone: three quarters of that layer's products. That is done in classes of BERT's form, where a
module adds what attention gives to what it was given.

Whether a class can be treated so is found on a copy without weights; that it gives the logits of
the plain model is proven on the real one (finetune/proof.py).
"""

# N scored outputs, fillers included  T tokens of the row, the same  W windows  D model width

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune.task import Window
from pretrain.model import attention
from pretrain.model.attention import Segments, segments_of
from pretrain.model.build import first_position
from pretrain.model.head import PROBE_TOKENS, without_weights
from runtime.errors import RecipeError

MIN_STEP = 8  # tokens, of steady numbers of them


class Packing:
    """Runs one model on packed rows."""

    def __init__(self, model: PreTrainedModel, head: str) -> None:
        """Raises RecipeError if the class cannot be packed; switches the model's attention."""
        self.first_position = first_position(model.config)
        self.is_averaged = (
            head == "sequence" and getattr(model.config, "classifier_pooling", None) == "mean"
        )
        self.pick: tuple[Tensor, Segments] | None = None  # while a packed row is forwarded
        last, early = modules_of(model)
        encoder = model.base_model
        encoder.get_submodule(last).register_forward_hook(self.replace)
        self.is_early = early is not None and not self.is_averaged
        if early is not None and self.is_early:
            encoder.get_submodule(early).register_forward_pre_hook(self.narrow)
        use_attention(model, is_packed=True)

    @contextmanager
    def picking(self, positions: Tensor, segments: Segments) -> Iterator[None]:
        """Inside, the head sees these positions (N,) of the row only."""
        self.pick = positions, segments
        try:
            yield
        finally:
            self.pick = None

    def narrow(self, module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The hook of the last layer: of what attention gives and was given, (1, T, D) each, the
        scored outputs (1, N, D)."""
        if self.pick is None:
            return None
        return tuple(states.index_select(1, self.pick[0]) for states in given)

    def replace(self, module: nn.Module, given: Any, returned: Any) -> Any:
        """The hook; does nothing to rows of other models that share the encoder."""
        if self.pick is None:
            return None
        if isinstance(returned, Tensor):
            return self.picked(returned)
        if isinstance(returned, tuple):
            return self.picked(returned[0]), *returned[1:]
        returned["last_hidden_state"] = self.picked(returned["last_hidden_state"])
        return returned

    def picked(self, hidden: Tensor) -> Tensor:
        """(1, T, D), or (1, N, D) -> (N, 1, D)."""
        assert self.pick is not None
        if self.is_early:
            return hidden[0][:, None]
        positions, segments = self.pick
        if not self.is_averaged:
            return hidden[0].index_select(0, positions)[:, None]
        lengths = segments.boundaries.diff().long()
        tokens = hidden[0, : hidden.shape[1] - segments.num_filled].float()
        averages = torch.segment_reduce(tokens, "mean", lengths=lengths)  # (W, D)
        of_window = torch.bucketize(positions, segments.boundaries.long(), right=True) - 1
        return averages.to(hidden.dtype).index_select(0, of_window)[:, None]


def pack(windows: Sequence[Window], first_position: int, is_steady: bool) -> dict[str, Any]:
    """Model inputs (1, T) of windows one after the other, and where their scored outputs lie.

    `positions` (N,) point into the row; `lengths` counts the scored outputs of each window, or of
    each of its chains. A steady row ends with a filler, so that T is one of few numbers, and so do
    the positions: there are more of them than targets.
    """
    sizes = np.array([len(window.input_ids) for window in windows], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    places = np.arange(total) - np.repeat(starts, sizes) + first_position
    filler = steady(total) - total if is_steady else 0
    scored = np.concatenate(
        [window.positions + start for window, start in zip(windows, starts, strict=True)]
    )
    if is_steady:
        scored = np.pad(scored, (0, steady(len(scored)) - len(scored)))
    found: dict[str, Any] = {
        "input_ids": row([window.input_ids for window in windows], filler),
        "position_ids": row([places], filler),
        "segments": segments_of(sizes, filler if is_steady else None),
        "positions": torch.from_numpy(scored),
        "targets": torch.from_numpy(np.concatenate([window.targets for window in windows])),
        "lengths": torch.tensor([size for window in windows for size in window.chain_sizes]),
    }
    if windows[0].token_type_ids is not None:
        found["token_type_ids"] = row([window.token_type_ids for window in windows], filler)
    return found


def row(parts: Sequence[Any], filler: int) -> Tensor:
    """(1, T): the parts, then as many copies of their first number."""
    joined = np.concatenate(parts).astype(np.int64)
    return torch.from_numpy(np.concatenate([joined, np.repeat(joined[:1], filler)]))[None]


def steady(count: int) -> int:
    """The next number of few, eight for each power of two: at most an eighth more."""
    step = max(MIN_STEP, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step


def wants_steady_shapes(model: nn.Module) -> bool:
    """True for bf16 on a CPU: oneDNN compiles its kernels for each shape of a product, which takes
    2 to 10 times as long as a product of some hundred tokens."""
    parameter = next(model.parameters())
    return parameter.device.type == "cpu" and parameter.dtype == torch.bfloat16


def use_attention(model: PreTrainedModel, is_packed: bool) -> None:
    """Attend inside the segments of packed rows, or as the library does."""
    own = "sdpa" if model._supports_sdpa else "eager"
    # Of the encoder: models that share one have configurations of their own.
    model.base_model.config._attn_implementation = attention.NAME if is_packed else own


def modules_of(model: PreTrainedModel) -> tuple[str, str | None]:
    """Names, in the encoder, of the module that returns the last hidden states, and of the one
    that adds the last attention to what it was given, if there is one.

    Raises RecipeError if the class does not run on packed rows.
    """
    kind = type(model).__name__
    if not model._supports_attention_backend:
        raise RecipeError(f"{kind} computes attention in code of its own")
    twin = without_weights(model)
    twin.config._attn_implementation = attention.NAME
    encoder = twin.base_model
    calls: list[Call] = []
    handles = [
        module.register_forward_hook(
            lambda module, given, returned, name=name: calls.append(
                Call(name, given, first(returned))
            )
        )
        for name, module in encoder.named_modules()
    ]
    ids = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device="meta")
    try:
        twin(input_ids=ids, position_ids=ids, segments=segments_of(np.array([PROBE_TOKENS])))
    except (AssertionError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"{kind} does not run on packed rows ({reason})") from None
    finally:
        for handle in handles:
            handle.remove()
    assert calls[-1].name == ""
    inside = [call.name for call in calls[:-1] if call.returned is calls[-1].returned]
    return inside[-1] if inside else "", adding_attention(encoder, calls)


@dataclass(frozen=True)
class Call:
    """A module of the encoder that was called."""

    name: str
    given: tuple[Any, ...]  # by position
    returned: Any  # hidden states, or what else is first


def adding_attention(encoder: nn.Module, calls: Sequence[Call]) -> str | None:
    """The module of the last layer that was given two states of the whole row, once."""
    lists = [(name, len(each)) for name, each in encoder.named_modules()
             if isinstance(each, nn.ModuleList)]  # fmt: skip
    last_layers = tuple(f"{name}.{count - 1}." for name, count in lists if count)
    found = [
        call.name
        for call in calls
        if call.name.startswith(last_layers)
        and len(call.given) == 2
        and all(isinstance(each, Tensor) and each.dim() == 3 for each in call.given)
        and call.given[0].shape == call.given[1].shape
    ]
    return found[0] if found and found.count(found[0]) == 1 else None


def first(returned: Any) -> Any:
    """The hidden states among what a module returned."""
    return returned if isinstance(returned, Tensor) or returned is None else returned[0]
