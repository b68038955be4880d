"""What may happen between the steps of a run beside training: exports, probes, re-weighting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pretrain.evaluate import Evaluation
from runtime.checkpoint import Position


@dataclass(frozen=True)
class Done:
    """A step that was just done."""

    position: Position  # after the step; `step` counts from 1
    progress: float  # share of the run done, in (0, 1]; 1 only at the last step
    is_last: bool
    evaluation: Evaluation | None  # if the run was evaluated after this step


class Hook(Protocol):
    """Called by all ranks after every step, before a checkpoint of it is written.

    What it decides must depend on its arguments and its state alone, so that a resumed run does the
    same again. `state` is JSON and travels in the checkpoint under `name`.
    """

    name: str

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...

    def after_step(self, done: Done) -> Mapping[str, float]:
        """Metrics to log at this step, by tag; usually none."""
        ...


def states(hooks: Sequence[Hook]) -> dict[str, Any]:
    """The state of every hook by name, for a checkpoint."""
    return {hook.name: hook.state() for hook in hooks}


def restore(hooks: Sequence[Hook], found: Mapping[str, Any]) -> None:
    """Give every hook the state a checkpoint holds for it."""
    for hook in hooks:
        if hook.name in found:
            hook.restore(found[hook.name])
