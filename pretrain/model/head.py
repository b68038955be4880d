"""Find the way from hidden states to logits in any masked-LM class of transformers, and score it.

The classes agree on nothing but `base_model` and `get_output_embeddings`. What they do in between
is seen by running a copy without weights (device `meta`) once: the head is the chain of the class's
own top-level modules, each given what the one before returned, and its last operation must be the
output layer. A class that is not of this form, or whose attention cannot be replaced, is refused
with the reason before anything is trained.
"""

# K targets  D width  V vocabulary

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from pretrain.model.cross_entropy import summed_cross_entropy
from runtime.errors import RecipeError

PROBE_TOKENS = 8
ADVICE = "choose another model, for example modernbert, bert or roberta"


@dataclass(frozen=True)
class Call:
    """One call of a top-level module while a model ran."""

    name: str
    given: Any
    returned: Any


class Head:
    """The prediction head of a model; its modules stay where they are."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises RecipeError if the class of the model cannot be trained on packed samples."""
        self.names = chain_of(model)
        self.modules = [model.get_submodule(name) for name in self.names]
        self.output_layer = OutputLayer(model.get_output_embeddings())

    def logits(self, hidden: Tensor) -> Tensor:
        """(K, D) -> (K, V)."""
        for module in self.modules:
            hidden = module(hidden)
        return hidden

    def transformed(self, hidden: Tensor, score: "Score") -> Any:
        """What `score` makes of the output layer's input, weight and bias for hidden (K, D)."""
        self.output_layer.score = score
        try:
            return self.logits(hidden)
        finally:
            self.output_layer.score = None


Score = Callable[[Tensor, Tensor, Tensor | None], Any]  # of input (K, D), weight (V, D), bias (V,)


class OutputLayer:
    """Stands for the forward of the model's last linear layer: computes logits, or what is asked.

    The loss is computed inside the module's call because a sharded weight is whole only there.
    """

    def __init__(self, linear: nn.Module) -> None:
        self.linear = linear
        self.score: Score | None = None
        linear.forward = self

    def __call__(self, hidden: Tensor) -> Any:
        weight, bias = self.linear.weight, self.linear.bias
        assert isinstance(weight, Tensor)
        assert bias is None or isinstance(bias, Tensor)
        if self.score is None:
            return functional.linear(hidden, weight, bias)
        return self.score(hidden, weight, bias)


def summed_loss(targets: Tensor) -> Score:
    """Scores the sum of the losses of (K,) targets."""

    def score(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return summed_cross_entropy(hidden, weight, bias, targets)

    return score


def chain_of(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the modules that make logits of hidden states, in order."""
    kind = type(model).__name__
    refuse_unsuitable(model)
    twin = without_weights(model)
    calls, logits = run(twin)
    last = next((call.returned for call in calls if call.name == ""), None)  # of the encoder
    names = []
    for call in calls:
        if call.name and last is not None and call.given is last:
            names.append(call.name)
            last = call.returned
    if last is not logits or not names:
        raise RecipeError(
            f"{kind} makes its predictions by more than a chain of modules after its encoder; "
            f"pretraining on targets alone cannot follow it: {ADVICE}"
        )
    return tuple(names)


def refuse_unsuitable(model: PreTrainedModel) -> None:
    """Raise RecipeError for what no trial is needed to know."""
    kind, config = type(model).__name__, model.config
    reason = None
    if config.is_encoder_decoder:
        reason = "is an encoder with a decoder, not an encoder alone"
    elif getattr(config, "vision_config", None) is not None:
        reason = "reads images beside text"
    elif getattr(config, "is_decoder", False) or getattr(config, "is_causal", False):
        reason = "attends to earlier tokens only (is_decoder in its config)"
    elif not model._supports_attention_backend:
        reason = (
            "computes attention in code of its own, which the library's AttentionInterface cannot "
            "replace, so that documents of a sample would see each other"
        )
    elif not isinstance(model.get_output_embeddings(), nn.Linear):
        reason = "has no linear output layer"
    if reason is not None:
        raise RecipeError(f"{kind} {reason}; {ADVICE}")


def without_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class and shape that computes shapes only."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    config.dtype = None
    with torch.device("meta"):
        twin = type(model)(config)
    return twin.eval()


def run(twin: PreTrainedModel) -> tuple[list[Call], Tensor]:
    """The calls of top-level modules in order, the encoder as "", and the logits they lead to.

    A linear output layer that is not the last operation leaves other logits than its own.
    """
    calls: list[Call] = []
    outputs: list[Tensor] = []
    names = {id(module): name for name, module in twin.named_children()}
    names[id(twin.base_model)] = ""

    def note(module: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        name = names[id(module)]
        value = returned if name else returned[0]
        calls.append(Call(name, given[0] if given else None, value))

    handles = [
        module.register_forward_hook(note)
        for module in (*twin.children(), twin.base_model)
        if id(module) in names
    ]
    layer = twin.get_output_embeddings()
    handles.append(layer.register_forward_hook(lambda module, given, out: outputs.append(out)))
    ids = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device="meta")
    try:
        logits = twin(input_ids=ids, position_ids=ids)[0]
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"{type(twin).__name__} does not run on token ids and positions alone "
            f"({str(error).splitlines()[0]}); {ADVICE}"
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    if not outputs or outputs[-1] is not logits:
        raise RecipeError(f"{type(twin).__name__} changes what its output layer returns; {ADVICE}")
    return calls, logits
