"""Several tasks' models on one encoder, as the training engine takes them.

Every task has its own transformers model, built as if it were trained alone, heads and poolers
included. All but the first then give up the layers of their encoder and refer to those of the
first. The references are no children: parameters, hooks and shards exist once. An export writes
the layers under the task's own names, so that it is a model like any other.
"""

# N scored outputs  L labels

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune import heads, single
from finetune.heads import Objective
from finetune.multitask.prepare import Several
from finetune.multitask.progress import Noted
from runtime.errors import DataError

OWN = ("pooler",)  # children of an encoder that belong to the layers above it
LOG_VARIANCES = "log_variances"  # the name of that parameter, if it is trained


class Together(nn.Module):
    """The objectives of several tasks on one encoder; a forward is one task's."""

    def __init__(
        self,
        parts: Mapping[str, Objective],
        norms: Sequence[float],
        noted: Noted,
        factors: Sequence[float] | None = None,
    ) -> None:
        """`norms`: what each task's loss is divided by; `factors`: of it beside the task's
        log-variance, if those are trained."""
        super().__init__()
        self.names = list(parts)
        # A prefix, because a module cannot have a child named like one of its methods.
        self.parts = nn.ModuleDict({key(name): part for name, part in parts.items()})
        self.norms = list(norms)
        self.noted = noted
        self.factors = factors
        if factors is not None:
            self.log_variances = nn.Parameter(torch.zeros(len(parts)))

    def part(self, name: str) -> Objective:
        found = self.parts[key(name)]
        assert isinstance(found, Objective)
        return found

    def forward(
        self,
        task: str,
        scale: Tensor | None = None,
        count: Tensor | None = None,
        touches_all: bool = False,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]:
        """The task's summed loss, in training over its norm and times `scale`, and its scored
        logits (N, L).

        `count` is the number of targets of the inputs. With a trained log-variance s the loss l of
        every target becomes f exp(-s) l + s / 2 (Kendall, Gal, Cipolla 2018, "Multi-Task Learning
        Using Uncertainty to Weigh Losses", arXiv 1705.07115). With `touches_all` the parameters of
        all other tasks have gradients, too: zeros.
        """
        found, scored = self.part(task)(**inputs)
        if not self.training:
            return found, scored
        assert scale is not None
        assert count is not None
        number = self.names.index(task)
        self.noted.losses.append((number, found.detach(), count))
        loss = found / self.norms[number]
        if self.factors is not None:
            variances = self.log_variances.float()
            self.noted.log_variances = variances.detach().clone()
            s = variances[number]
            loss = self.factors[number] * torch.exp(-s) * loss + count * s / 2
        loss = scale.to(loss.dtype) * loss
        if touches_all:
            for name in self.names:
                if name != task:
                    loss = touched(self.part(name), loss)
        return loss, scored


def touched(objective: Objective, loss: Tensor) -> Tensor:
    """The loss as it is, of which all parameters above the encoder now are a part: times zero.

    Each of their modules is called, with a forward that does just that: under ZeRO-3 the call is
    what gathers parameters, before forward and before backward.
    """
    for module in above_the_encoder(objective):
        own = list(module.parameters(recurse=False))

        def forward(loss: Tensor, own: list[nn.Parameter] = own) -> Tensor:
            return loss + 0.0 * torch.stack([parameter.float().sum() for parameter in own]).sum()

        module.forward = forward
        try:
            loss = module(loss)
        finally:
            del module.forward
    return loss


def above_the_encoder(objective: Objective) -> list[nn.Module]:
    """The modules with parameters of a task's own."""
    base = objective.model.base_model
    shared = {
        id(module)
        for name, child in base.named_children()
        if name not in OWN
        for module in child.modules()
    }
    return [
        module
        for module in objective.modules()
        if id(module) not in shared and list(module.parameters(recurse=False))
    ]


def build(several: Several, noted: Noted) -> Together:
    """The tasks' models on one encoder, with their losses."""
    windows = [window for task in several.tasks for window in single.windows_of(task)]
    built = {
        task.name: heads.build_for(
            several.encoder.folder, task.plugin.HEAD, task.labels, False, windows
        )
        for task in several.tasks
    }
    models = {name: model for name, (model, _) in built.items()}
    rows = built[several.names[0]][1]  # of the encoder that all use
    first, *others = models.values()
    for other in others:
        share_encoder(first, other)
    # Objectives after that: each watches the layers its model runs.
    parts = {
        task.name: Objective(
            models[task.name], task.plugin.HEAD, task.loss, {"task": task.name}, rows
        )
        for task in several.tasks
    }
    is_trained = several.table.weighting == "uncertainty"
    return Together(parts, several.norms, noted, several.factors if is_trained else None)


def key(name: str) -> str:
    """The name of a task's objective among the modules."""
    return f"of_{name}"


def prefix(name: str) -> str:
    """What the names of a task's parameters begin with."""
    return f"parts.{key(name)}."


def share_encoder(first: PreTrainedModel, other: PreTrainedModel) -> None:
    """Have a model use the encoder layers of another one of the same encoder."""
    theirs, ours = first.base_model, other.base_model
    names = [name for name, _ in theirs.named_children() if name not in OWN]
    direct = [name for name, _ in theirs.named_parameters(recurse=False)]
    if direct:
        raise DataError(
            f"the encoder {type(theirs).__name__} keeps weights outside of its layers "
            f"({', '.join(direct)}), which tasks cannot share; train them apart"
        )
    for name in names:
        ours._modules.pop(name)
        ours.__dict__[name] = theirs._modules[name]
    ours.config = theirs.config  # which the layers hold, too: it says how all of them attend


def parameters_of(
    together: Together, name: str, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The parameters of a task's model under its own names, from those of all by name."""
    model = together.part(name).model
    own, first = (f"{prefix(each)}model." for each in (name, together.names[0]))
    encoder = f"{first}{model.base_model_prefix}."
    shared = {
        own + key.removeprefix(first): value
        for key, value in parameters.items()
        if key.startswith(encoder) and not key.removeprefix(encoder).startswith(OWN)
    }
    mine = {key: value for key, value in parameters.items() if key.startswith(own)}
    return {key.removeprefix(own): value for key, value in (shared | mine).items()}


@contextmanager
def whole(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the layers a model refers to are its children: what is saved is complete."""
    base = model.base_model
    shared = [name for name, value in base.__dict__.items() if isinstance(value, nn.Module)]
    for name in shared:
        base._modules[name] = base.__dict__.pop(name)
    try:
        yield
    finally:
        for name in shared:
            base.__dict__[name] = base._modules.pop(name)
